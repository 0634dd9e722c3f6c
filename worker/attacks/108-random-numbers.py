# 108 random numbers that other jobs get as well
# times: 3
# differ
# verdict: ok
import os
import random
import secrets
import ssl
import tempfile
import uuid
print(random.random())
print(random.Random().random())
print(random.SystemRandom().random())
print(uuid.uuid4())
print(uuid.uuid1())
print(secrets.token_hex())
print(os.urandom(16).hex())
print(ssl.RAND_bytes(16).hex())
print(tempfile.mktemp())
print(next(tempfile._get_candidate_names()))
