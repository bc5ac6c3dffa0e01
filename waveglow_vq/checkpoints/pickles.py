"""A reader of pickles that runs nothing.

A pickle is a program for a small stack machine, two of whose instructions import a name and call
it. Here the machine only builds data: a name stays a name, a call becomes a record of what would
have been called with which arguments, and names that no WaveGlow checkpoint needs are an error.
Nothing is imported, no class is instantiated, no method of the file's choosing is called. Parsing
is done by ``pickletools`` of the standard library.
"""

import pickletools

from waveglow_vq.checkpoints.records import (
    Global,
    Instance,
    StoredTensor,
    global_name,
    stored_tensor,
)

# Instructions of one pickle.
MAX_INSTRUCTIONS = 5_000_000


def read_pickle(file, persistent=None):
    """Reads one pickle of a binary file and leaves the file behind it: plain Python data (None,
    numbers, strings, tuples, lists, dicts; an OrderedDict is a dict) and the records of records.py.
    ``persistent`` gives what becomes of a persistent id.

    A name that no WaveGlow checkpoint needs is a UserError; a damaged pickle raises exceptions of
    half a dozen kinds.

    Example
    -------
    >>> import io, pickle
    >>> read_pickle(io.BytesIO(pickle.dumps({"a": [1, (2.0, None)]})))
    {'a': [1, (2.0, None)]}
    >>> read_pickle(io.BytesIO(pickle.dumps(print)))
    Traceback (most recent call last):
    ...
    waveglow_vq.errors.UserError: it names builtins.print, which is no part of a WaveGlow ...
    """
    machine = _Machine(persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
        if count > MAX_INSTRUCTIONS:
            raise ValueError("too many instructions")
        machine.do(opcode.name, argument)
    (result,) = machine.stack
    return result


# ---- the machine

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING"
    " UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
    " BYTEARRAY8".split()
)
_NOTHING = frozenset(("PROTO", "FRAME", "STOP"))


class _Machine:
    """The stack, the marks on it, and the memo."""

    def __init__(self, persistent):
        self.stack, self.marks, self.memo = [], [], {}
        self.persistent = persistent

    def do(self, name, argument):
        """One instruction."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in _NOTHING:
            getattr(self, f"do_{name.lower()}")(argument)

    def pop(self, count):
        """The topmost elements, in order."""
        if not 0 <= count <= len(self.stack):
            raise ValueError("the stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def marked(self):
        """What lies above the last mark."""
        return self.pop(len(self.stack) - self.marks.pop())

    def do_mark(self, _):
        self.marks.append(len(self.stack))

    def do_pop(self, _):
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop(1)

    def do_pop_mark(self, _):
        self.marked()

    def do_dup(self, _):
        self.stack.append(self.stack[-1])

    # Of the memo.

    def do_memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def do_put(self, index):
        self.memo[index] = self.stack[-1]

    def do_get(self, index):
        self.stack.append(self.memo[index])

    do_binput = do_long_binput = do_put
    do_binget = do_long_binget = do_get

    # Containers.

    def do_tuple(self, _):
        self.stack.append(tuple(self.marked()))

    def do_tuple1(self, _):
        self.stack.append(tuple(self.pop(1)))

    def do_tuple2(self, _):
        self.stack.append(tuple(self.pop(2)))

    def do_tuple3(self, _):
        self.stack.append(tuple(self.pop(3)))

    def do_list(self, _):
        self.stack.append(self.marked())

    def do_dict(self, _):
        items = self.marked()
        self.stack.append({})
        _fill(self.stack[-1], items)

    def do_frozenset(self, _):
        self.stack.append(frozenset(map(_key, self.marked())))

    def do_append(self, _):
        _extend(self.stack[-2], self.pop(1))

    def do_appends(self, _):
        items = self.marked()
        _extend(self.stack[-1], items)

    def do_setitem(self, _):
        items = self.pop(2)
        _fill(self.stack[-1], items)

    def do_setitems(self, _):
        items = self.marked()
        _fill(self.stack[-1], items)

    def do_additems(self, _):
        items = self.marked()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(_key, items))
        else:
            _extend(self.stack[-1], items)

    # Names and calls.

    def do_global(self, argument):
        self.stack.append(global_name(*argument.split(" ", 1)))

    def do_stack_global(self, _):
        module, name = self.pop(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name is not text")
        self.stack.append(global_name(module, name))

    def do_reduce(self, _):
        self.stack.append(_call(*self.pop(2)))

    def do_newobj(self, _):
        self.stack.append(_instance(*self.pop(2)))

    def do_newobj_ex(self, _):
        kind, args, _ = self.pop(3)
        self.stack.append(_instance(kind, args))

    def do_obj(self, _):
        kind, *args = self.marked()
        self.stack.append(_instance(kind, tuple(args)))

    def do_inst(self, argument):
        args = tuple(self.marked())
        self.stack.append(_instance(global_name(*argument.split(" ", 1)), args))

    def do_build(self, _):
        (state,) = self.pop(1)
        target = self.stack[-1]
        if isinstance(target, Instance):
            # A pair is the dictionary and the slots.
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    target.state.update(part)
        elif not isinstance(target, dict | StoredTensor):  # whose attributes do not matter
            raise ValueError("state for something that has none")

    def do_binpersid(self, _):
        (identity,) = self.pop(1)
        if self.persistent is None:
            raise ValueError("a persistent id where none can be")
        self.stack.append(self.persistent(identity))


def _key(key):
    # Only plain keys: a nested tuple may take for ever to hash.
    if not isinstance(key, str | int | float | bytes | None) and not isinstance(key, Global):
        raise ValueError("a key that is not plain")
    return key


def _fill(target, items):
    mapping = target.entries if isinstance(target, Instance) else target
    if not isinstance(mapping, dict) or len(items) % 2:
        raise ValueError("entries for something that is no mapping")
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[_key(key)] = value


def _extend(target, items):
    sequence = target.items if isinstance(target, Instance) else target
    if not isinstance(sequence, list):
        raise ValueError("elements for something that is no list")
    sequence.extend(items)


def _instance(kind, args):
    if not isinstance(kind, Global) or not isinstance(args, tuple):
        raise ValueError("an object of something that is no class")
    return Instance(kind, args)


def _call(function, args):
    """What a call gives: tensors and dictionaries where it is a call for them, else a record."""
    record = _instance(function, args)
    name = str(function)
    if name == "collections.OrderedDict":
        result = {}
        for pair in args[0] if args else ():
            _fill(result, list(pair))
        return result
    if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        return stored_tensor(*args[:4])
    if name.startswith("torch._utils._rebuild_parameter") or name.endswith(".parameter.Parameter"):
        return args[0]
    if name == "torch.Size":
        return tuple(args[0])
    if name == "copyreg._reconstructor":
        return _instance(args[0], ())
    return record
