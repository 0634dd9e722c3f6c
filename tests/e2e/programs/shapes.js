exports.area = (r) => Math.round(Math.PI * r * r);
