process.on('message', (message) => {
  process.send({ n: message.n + 1 }, () => process.disconnect());
});
