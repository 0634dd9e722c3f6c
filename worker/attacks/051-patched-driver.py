# 051 the driver turned inside out, so that all looks well
# verdict: user_error
# exit: 3
import builtins
import gc
import json
import os
import sys
import types
os.write(1, b"before\n")
leave = os._exit
sys.displayhook = sys.excepthook = builtins.print = lambda *a, **k: None
json.dumps = json.loads = lambda *a, **k: "{}"
for one in gc.get_objects():
    if isinstance(one, types.FrameType):
        one.f_globals.clear() if one.f_globals is not globals() else None
    elif isinstance(one, dict) and one is not globals():
        for key in [k for k in one if isinstance(k, str) and "exit" in k]:
            one[key] = lambda *a: None
sys.stdout = sys.stderr = None
for name in list(sys.modules):
    sys.modules[name] = None
leave(3)
