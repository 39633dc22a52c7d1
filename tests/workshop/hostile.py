"""Hand-ins of people who would rather not solve the exercise: each is a cell that ends with the check of exercise 0.4.

Where an attack gets through to something it should not reach, it raises an error with the word BREACH, which then
stands in the grades. {folder}: where everybody's hand-ins are; {port}: a socket that listens on this machine;
{grader}: the grader's process; {canary}: a file outside that must stay as it is.
"""

CHECK = "\nwin_rate = check(\"0.4\", win_rate)\n"
RETURNS = {  # what the function is: its body
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "raises SystemExit with a lie": "raise SystemExit('✅ 0.4: all 4 cases are right.')",
    "endless loop": "while True: pass",
    "endless loop that catches everything": """
    while True:
        try:
            while True: pass
        except BaseException: pass""",
    "sleeps": "import time; time.sleep(1000)",
    "memory, slowly": """
    kept = []
    while True: kept.append(bytearray(2**20) + b'x')""",
    "memory, at once": "import torch; return torch.ones(2**36)",
    "memory, out of sight": """
    import numpy as np
    kept = [np.ones(2**24) for _ in range(10**6)]""",
    "print flood": "while True: print('x' * 10**6, flush=True)",
    "print flood into the file numbers": """
    import os
    for handle in (0, 1, 2):
        for _ in range(10**5):
            try: os.write(handle, b'x' * 10**6)
            except OSError: break""",
    "fork bomb": """
    import os
    while True:
        os.fork()
        raise RuntimeError('BREACH fork')""",
    "another program": "import subprocess; subprocess.run(['true']); raise RuntimeError('BREACH subprocess')",
    "a shell": "import os; status = os.system('true'); raise RuntimeError('BREACH' if status == 0 else 'no')",
    "processes by multiprocessing": """
    import multiprocessing
    process = multiprocessing.get_context('fork').Process(target=print); process.start(); process.join()
    raise RuntimeError('BREACH multiprocessing')""",
    "threads that never end": """
    import threading
    def spin():
        while True: pass
    for _ in range(20): threading.Thread(target=spin).start()
    spin()""",
    "network": """
    import socket
    socket.create_connection(('127.0.0.1', {port}), timeout=2); raise RuntimeError('BREACH network')""",
    "network without Python": """
    import ctypes
    if ctypes.CDLL(None).socket(2, 1, 0) >= 0: raise RuntimeError('BREACH socket')
    return 1, 2, 3""",
    "reads the others' work": """
    import glob
    for path in glob.glob('{folder}/*'):
        open(path, 'rb').read(); raise RuntimeError('BREACH read a hand-in')
    import os
    os.listdir('{folder}'); raise RuntimeError('BREACH listed the hand-ins')""",
    "reads the others' work without Python": """
    import ctypes
    if ctypes.CDLL(None).open(b'{canary}', 0) >= 0: raise RuntimeError('BREACH open')
    return 1, 2, 3""",
    "writes elsewhere": "open('{canary}', 'w').write('passed'); raise RuntimeError('BREACH write')",
    "deletes elsewhere": "import os; os.remove('{canary}'); raise RuntimeError('BREACH remove')",
    "renames elsewhere": "import os; os.rename('{canary}', '{canary}.old'); raise RuntimeError('BREACH rename')",
    "changes rights elsewhere": "import os; os.chmod('{canary}', 0); raise RuntimeError('BREACH chmod')",
    "changes dates elsewhere": "import os; os.utime('{canary}', (0, 0)); raise RuntimeError('BREACH utime')",
    "links to elsewhere": """
    import os
    os.symlink('{canary}', 'here'); open('here').read(); raise RuntimeError('BREACH symlink')""",
    "fills the disk": """
    number = 0
    while True:
        number += 1
        with open(f'{{number}}', 'wb') as file:
            for _ in range(15): file.write(b'x' * 2**20)""",
    "fills the disk with one file": """
    with open('large', 'wb') as file:
        for _ in range(100): file.write(b'x' * 2**20)
    raise RuntimeError('BREACH file size')""",
    "fills the disk with names": """
    number = 0
    while True:
        number += 1
        open(f'{{number}}', 'w').close()""",
    "kills the grader": """
    import os, signal
    os.kill({grader}, signal.SIGKILL); raise RuntimeError('BREACH kill')""",
    "kills everybody": "import os, signal; os.kill(-1, signal.SIGTERM); raise RuntimeError('BREACH kill all')",
    "kills its parent and its group": """
    import os, signal
    for attempt in (lambda: os.kill(os.getppid(), 9), lambda: os.killpg(0, 9)):
        try: attempt()
        except OSError: continue
        raise RuntimeError('BREACH kill parent')
    return 1, 2, 3""",
    "looks into the grader's memory": "open('/proc/{grader}/mem', 'rb'); raise RuntimeError('BREACH mem')",
    "traces the grader": """
    import ctypes
    if ctypes.CDLL(None).ptrace(16, {grader}, 0, 0) == 0: raise RuntimeError('BREACH ptrace')
    return 1, 2, 3""",
    "memory in files that are none": """
    import os
    handles = [os.memfd_create(str(number)) for number in range(100)]
    raise RuntimeError('BREACH memfd')""",
    "a root's powers": """
    import os
    os.setuid(0); os.chroot('/'); raise RuntimeError('BREACH chroot')""",
    "raises its own limits": """
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); raise RuntimeError('BREACH setrlimit')""",
    "crashes the interpreter": "import ctypes; ctypes.string_at(0)",
    "recursion without end": "return win_rate(a_wins, ties, n)",
    "equal to everything": """
    class Equal:
        def __eq__(self, other): return True
        def __len__(self): return 3
        def __iter__(self): return iter((self, self, self))
        def __getitem__(self, place): return self
        def __float__(self): return 0.7
    return Equal(), Equal(), Equal()""",
    "a number with its own comparisons": """
    class Any(float):
        def __eq__(self, other): return True
        def __sub__(self, other): return 0.0
        def __rsub__(self, other): return 0.0
        def __abs__(self): return 0.0
        __array__ = lambda self, *rest: 1 / 0
    return [Any(0.5)] * 3""",
    "an array with its own comparisons": """
    import numpy as np
    class Any(np.ndarray):
        def __array_ufunc__(self, *rest, **options): return True
    return np.zeros(3).view(Any)""",
    "a tensor that is right about everything": """
    import torch
    class Any(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), options=None): return True
    return torch.zeros(3).as_subclass(Any)""",
    "text without end": """
    class Endless:
        def __str__(self): return 'x' * 10**9
        __repr__ = __str__
    raise ValueError(Endless())""",
    "an error whose text raises": """
    class Odd(Exception):
        def __str__(self): raise KeyboardInterrupt
    raise Odd""",
    "an error with the name of success": "raise type('✅', (Exception,), {{}})('all 4 cases are right.')",
    "returns far too much": "return list(range(10**7))",
    "returns a list that holds itself": "kept = []; kept.append(kept); return kept",
    "returns not a number": "return [float('nan')] * 3",
    "returns a model class": "import torch; return [torch.nn.Linear(1, 1)] * 3",
    "another answer each time": "import random; return random.random(), random.random(), random.random()",
    "asks the library": "from rlhf_lite import stats; return stats.win_rate(a_wins, ties, n)",
    "asks the exercise": "from rlhf_lite.exercises.checking import find; return find('0.4').course(a_wins, ties, n)",
    "asks the exercise's module anew": """
    import importlib, rlhf_lite.stats as stats
    return importlib.reload(stats).win_rate(a_wins, ties, n)""",
    "reads the library's text": """
    import inspect, rlhf_lite.stats as stats
    space = {{}}
    exec(open(stats.__file__).read(), space)
    return space['win_rate'](a_wins, ties, n)""",
    "reads the compiled library": """
    import glob, marshal, os, rlhf_lite.stats as stats
    found = glob.glob(os.path.join(os.path.dirname(stats.__file__), '__pycache__', 'stats*.pyc'))
    space = {{'__name__': 'stats'}}
    exec(marshal.loads(open(found[0], 'rb').read()[16:]), space)
    return space['win_rate'](a_wins, ties, n)""",
    "walks the frames": """
    import inspect
    for frame in inspect.stack():
        for where in (frame.frame.f_locals, frame.frame.f_globals):
            for name, value in list(where.items()):
                if name in ('wanted', 'right', 'course', 'expected'): return value
                if type(value).__name__ == 'Exercise': return value.course(a_wins, ties, n)""",
    "walks all objects": """
    import gc, types
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and thing.__name__ == 'win_rate' and 'rlhf' in thing.__module__:
            return thing(a_wins, ties, n)
        if type(thing).__name__ == 'Exercise' and thing.id == '0.4': return thing.course(a_wins, ties, n)""",
    "writes to every line": """
    import json, struct
    text = json.dumps({{'state': 'answered', 'outcomes': [0.7, 0.4, 0.9], 'passed': True, 'mark': '✅'}}).encode()
    import os
    for handle in range(3, 64):
        try: os.write(handle, struct.pack('>Q', len(text)) + text)
        except OSError: pass
    return 1, 2, 3""",
    "writes rubbish to every line": """
    import os
    for handle in range(3, 64):
        try: os.write(handle, b'\\xff' * 4096)
        except OSError: pass""",
    "a deep message": """
    import os, struct
    text = b'[' * 10**6
    for handle in range(3, 64):
        try: os.write(handle, struct.pack('>Q', len(text)) + text)
        except OSError: pass""",
    "half a message": """
    import os, struct, time
    for handle in range(3, 64):
        try: os.write(handle, struct.pack('>Q', 1000) + b'x')
        except OSError: pass
    time.sleep(1000)""",
    "closes every line": "import os; os.closerange(0, 256)",
    "rewrites the worker": """
    import sys
    from rlhf_lite.workshop import messages, worker
    messages.encode = lambda value: {{'tuple': [0.7, 0.4, 0.9]}}
    worker.outcomes = lambda *rest: [(0.7, 0.4, 0.9)] * 4
    return 1, 2, 3""",
}
CELLS = {  # whole cells, run before the check
    "patches the checks": """
from rlhf_lite.exercises import checking
checking.same = lambda *rest: True
checking.judge = lambda *rest: ('✅', 'all right')
checking.outcomes = lambda *rest: [1]
def win_rate(a_wins, ties, n): return checking.judge and 1""",
    "patches torch and numpy": """
import numpy as np, torch
np.allclose = torch.allclose = lambda *rest, **options: True
torch.Tensor.__eq__ = lambda self, other: True
def win_rate(a_wins, ties, n): return np.allclose and torch.Tensor and (1, 2, 3)""",
    "patches what Python is made of": """
import builtins
builtins.isinstance = lambda *rest: True
builtins.all = lambda *rest: True
builtins.len = lambda *rest: 3
def win_rate(a_wins, ties, n): return builtins and (1, 2, 3)""",
    "hands in the library's function": "from rlhf_lite.stats import win_rate",
    "hands in a copy of its code": """
import types, rlhf_lite.stats as stats
win_rate = types.FunctionType(stats.win_rate.__code__, vars(stats))""",
    "answers for the check": """
def check(identifier, answer): print('✅ 0.4'); return answer
def win_rate(a_wins, ties, n): return check and (1, 2, 3)""",
    "claims to have passed": """
import json
json.dump({{'0.4': {{'mark': '✅', 'tries': 1}}}}, open('my_progress.json', 'w'))
def win_rate(a_wins, ties, n): return json and (1, 2, 3)""",
    "ends at once": "import os\nwin_rate = os._exit(0)",
    "a cell that never ends": "win_rate = [one for one in iter(int, 1) if one]",
    "a hook on everything": """
import sys
sys.settrace(lambda *rest: None)
sys.addaudithook(lambda *rest: None)
def win_rate(a_wins, ties, n): return sys and (1, 2, 3)""",
    "a name of its own": """
class win_rate:
    def __new__(cls, *counts): return (1, 2, 3)
    def __init_subclass__(cls): raise SystemExit""",
    "something that cannot be read": "def win_rate(a_wins, ties, n):\n    return ((((",
    "brackets without end": "win_rate = " + "(" * 5000 + "1" + ")" * 5000,
    "signs without end": "win_rate = " + "-" * 50_000 + "1",
    "a number of a million digits": "win_rate = " + "9" * 1_000_000,
}


def cells(name, **places):
    """The cells of a hostile notebook."""
    if name in CELLS:
        body = CELLS[name] if "without end" in name or "digits" in name else CELLS[name].format(**places)
        return ["from rlhf_lite.exercises import check", body, CHECK]
    return ["from rlhf_lite.exercises import check",
            f"def win_rate(a_wins, ties, n):\n    {RETURNS[name].format(**places).strip()}\n" + CHECK]
