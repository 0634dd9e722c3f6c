import base64
import configparser
import csv
import datetime
import hashlib
import io
import json
import random
import re
import statistics
import textwrap
import unicodedata
import uuid
import xml.etree.ElementTree as tree
import zoneinfo
from collections import Counter
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 50
print(Decimal(2).sqrt())
print(Fraction(1, 3) + Fraction(1, 6))
print(json.dumps({"ü": [1, 2.5, None, True]}, ensure_ascii=False))
print(json.loads('{"a": {"b": [1e3]}}')["a"]["b"][0])
print(re.findall(r"(\w+)@(\w+)\.org", "me@here.org you@there.org"))
print(re.sub(r"(?P<a>\d+)-(?P<b>\d+)", r"\g<b>-\g<a>", "12-34"))
text = io.StringIO()
csv.writer(text).writerows([["a,b", 'c"d'], ["ü", 1.5]])
print(list(csv.reader(io.StringIO(text.getvalue()))))
print(datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo(
    "Europe/Madrid")).isoformat())
print(hashlib.sha256(b"x").hexdigest()[:16], hashlib.md5(b"x").hexdigest()[:8])
print(base64.b64encode(b"\xff\x00").decode(), uuid.uuid5(
    uuid.NAMESPACE_DNS, "example.org"))
root = tree.fromstring("<a><b n='1'>t</b></a>")
print(root.find("b").attrib, root.find("b").text)
config = configparser.ConfigParser()
config.read_string("[x]\ny = 1\n")
print(config["x"].getint("y"))
random.seed(4)
print(random.sample(range(100), 4), statistics.stdev([1, 2, 3, 4]).hex())
print(Counter("mississippi").most_common(2))
print(unicodedata.normalize("NFD", "é").encode())
print(textwrap.shorten("a long line of words", 12))
