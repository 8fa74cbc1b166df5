"""A fake accelerator for a torch without one: it refuses what CUDA would refuse, and counts the host's waits.

Tensors of the device are wrappers around CPU tensors, on torch's PrivateUse1 device, so that autograd knows the device.
Every operation goes through `_run`, which raises `Mixed` where CUDA would refuse the devices of its arguments, and
counts in `waits` what would make the host wait for the device: a copy in either direction, reading a number, a boolean
index. It does not model kernels, rounding, memory or compilation.

The device applies to the entire process, and torch's inference mode does not know it, so this module replaces that mode
on import: import it before tdiff, and only in a separate process (see `fake_device_runs`).
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

torch.inference_mode = torch.no_grad

NAME = "pretended"
PACKAGE = str(Path(__file__).resolve().parents[2] / "tdiff")

waits: Counter[tuple[str, str]] = Counter()
"""(the operation that made the host wait, its position in tdiff) -> count."""
_refused_dtypes: set[torch.dtype] = set()
_refused_operations: set[str] = set()


class Mixed(RuntimeError):
    """The device would refuse these arguments, which are on different devices."""


class _Backend:
    """The functions that torch calls in the module of a device."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    is_available = is_initialized

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(_seed: int) -> None:
        pass

    manual_seed = manual_seed_all

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def device(*_which: object) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
DEVICE = torch.device(NAME, 0)


def _place() -> str:
    """The two innermost frames within tdiff."""
    frames: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(frames) < 2:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            frames.append(f"{name[len(PACKAGE) + 1 :]}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(frames) or "outside tdiff"


def _wait(kind: str) -> None:
    waits[kind, _place()] += 1


def _refuse(text: str) -> None:
    raise Mixed(f"{text} [{_place()}]")


def _is_device(device: object) -> bool:
    return device is not None and torch.device(device).type == NAME


class DeviceTensor(torch.Tensor):
    """A tensor of the device, around the CPU tensor `inner`."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> DeviceTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            requires_grad=False,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def __repr__(self, **_options: object) -> str:
        return f"DeviceTensor({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with contextlib.nullcontext() if _Dispatch.depth else _Dispatch():
            return _run(func, args, kwargs or {})

    def tolist(self):
        _wait("tolist")
        return self.inner.tolist()

    def pin_memory(self, *_options: object):
        return _refuse("cannot pin a tensor of the device")

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            with torch.no_grad():
                copied = self.detach().clone()
            is_weight = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if is_weight else copied
        return memo[id(self)]


_pinned: dict[int, torch.Tensor] = {}
"""CPU tensors in pinned memory, from which a copy to the device does not wait."""


def _pin(tensor: torch.Tensor, *_options: object) -> torch.Tensor:
    copied = tensor.clone()
    _pinned[id(copied)] = copied  # stored, so that no other tensor gets its id
    if len(_pinned) > 1000:
        _pinned.pop(next(iter(_pinned)))
    return copied


_Generator = torch.Generator
_generators: dict[int, torch.Generator] = {}
"""Generators of the device by the id of the object that the dispatcher sees, which is not Python's."""


class _Watch(TorchDispatchMode):
    seen: torch.Generator | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for value in tree_flatten((args, kwargs or {}))[0]:
            if isinstance(value, _Generator):
                self.seen = value
        return func(*args, **(kwargs or {}))


class DeviceGenerator(torch.Generator):
    """A CPU generator that may report the device as its own."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, device="cpu")
        made.__dict__["_on"] = torch.device(device)
        if _is_device(device):
            with _Watch() as watch:
                torch.empty(0).uniform_(generator=made)
            assert watch.seen is not None
            _generators[id(watch.seen)] = watch.seen
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return DEVICE if self.__dict__["_on"].type == NAME else self.__dict__["_on"]


_COPIES = {"_to_copy", "copy_", "copy"}
_INDEX = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
_NO_SCALAR = {
    *("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "cat", "stack", "gather", "scatter", "scatter_"),
    *("scatter_add", "scatter_add_", "index_select", "index_add", "index_add_", "embedding", "searchsorted"),
    *("masked_scatter", "masked_scatter_", "take", "index_copy", "index_copy_", "native_layer_norm", "_softmax"),
    *("_log_softmax", "nll_loss_forward", "scaled_dot_product_attention", "bucketize", "repeat_interleave", "isin"),
}
"""Operations that refuse even a CPU tensor without dimensions; pointwise operations accept it."""
_READS = {
    "_local_scalar_dense": "item",
    "item": "item",
    "is_nonzero": "bool",
    "nonzero": "nonzero",
    "masked_select": "masked_select",
    "equal": "equal",
    "_unique2": "unique",
    "unique_consecutive": "unique",
    "unique_dim": "unique",
    "bincount": "bincount",
}
"""Operations whose result, or its size, the host must wait for."""


def _run(func, args, kwargs):
    name = func._schema.name.split("::")[-1]
    flat, spec = tree_flatten((args, kwargs))
    mine = [value for value in flat if isinstance(value, DeviceTensor)]
    asked_for = any(isinstance(value, torch.device) and _is_device(value) for value in flat)
    composed = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    if composed and (mine or asked_for):
        with _Dispatch():
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    if name in _COPIES:
        return _copied(func, name, args, kwargs)
    generator = next((value for value in flat if isinstance(value, _Generator)), None)
    of_device = generator is not None and (id(generator) in _generators or generator.device.type == NAME)
    if not mine and not asked_for:
        if of_device:
            _refuse(f"{name}: a generator of the device for a CPU tensor")
        return func(*args, **kwargs)
    if generator is not None and not of_device:
        _refuse(f"{name}: a CPU generator for a tensor of the device")
    others = [value for value in flat if isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)]
    _check(name, args, mine, others)
    _count(name, args, kwargs)
    if f"{name}.{func._overloadname}" in _refused_operations:
        _refuse(f"{name}.{func._overloadname}: not implemented for the device")
    bare = [value.inner if isinstance(value, DeviceTensor) else value for value in flat]
    bare = [torch.device("cpu") if isinstance(value, torch.device) else value for value in bare]
    plain_args, plain_kwargs = tree_unflatten(bare, spec)
    plain_kwargs.pop("pin_memory", None)
    result = func(*plain_args, **plain_kwargs)
    for value in tree_flatten(result)[0]:
        if isinstance(value, torch.Tensor) and value.dtype in _refused_dtypes:
            _refuse(f"{name}: the device has no {value.dtype}")
    return _wrapped(func, args, kwargs, result)


def _wrapped(func, args, kwargs, result):
    """Results as tensors of the device; for an in-place operation, the argument itself."""
    schema = func._schema
    given = dict(zip([argument.name for argument in schema.arguments], args, strict=False)) | kwargs
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if written:
        if not schema.returns:
            return None
        if schema.returns[0].alias_info is not None and schema.returns[0].alias_info.is_write:
            back = [given[name] for name in written]
            return back[0] if len(schema.returns) == 1 else tuple(back)

    def wrap(value):
        bare = isinstance(value, torch.Tensor) and not isinstance(value, DeviceTensor)
        return DeviceTensor(value) if bare else value

    return tree_map(wrap, result)


def _copied(func, name, args, kwargs):
    if name in ("copy_", "copy"):
        into, source = args[0], args[1]
        here, there = isinstance(into, DeviceTensor), isinstance(source, DeviceTensor)
        if here != there:
            _wait("copy to the device" if here else "copy from the device")
        bare = [value.inner if isinstance(value, DeviceTensor) else value for value in (into, source)]
        result = func(*bare, *args[2:], **kwargs)
        return into if name == "copy_" else DeviceTensor(result) if here else result
    source, options = args[0], dict(kwargs)
    here, device = isinstance(source, DeviceTensor), options.pop("device", None)
    there = _is_device(device) if device is not None else here
    if not here and not there:
        return func(*args, **kwargs)
    if here and not there:
        _wait("copy from the device")
    unhurried = options.pop("non_blocking", False) and id(source) in _pinned
    if there and not here and not unhurried:
        _wait("copy to the device")
    options.pop("pin_memory", None)
    result = func(source.inner if here else source, **options)
    if there and result.dtype in _refused_dtypes:
        _refuse(f"{name}: the device has no {result.dtype}")
    return DeviceTensor(result) if there else result


def _check(name, args, mine, others):
    """Raises Mixed if the device would refuse to compute with CPU tensors."""
    if not others or name in ("set_", "_has_same_storage_numel"):
        return
    if not mine:
        if any(other.dim() for other in others) and not name.endswith("_like") and not name.startswith("new_"):
            _refuse(f"{name}: a CPU tensor for a result on the device")
        return
    if name in _INDEX:
        if not isinstance(args[0], DeviceTensor):
            _refuse(f"{name}: a CPU tensor indexed or filled by tensors of the device")
        for index in args[1]:
            if index is not None and not isinstance(index, DeviceTensor):
                _wait("CPU index")
        if len(args) > 2 and isinstance(args[2], torch.Tensor) and not isinstance(args[2], DeviceTensor):
            if args[2].dim():
                _refuse(f"{name}: CPU values for a tensor of the device")
            _wait("CPU value")
        return
    if any(other.dim() for other in others):
        _refuse(f"{name}: all tensors must be on one device")
    if name in _NO_SCALAR:
        _refuse(f"{name}: a CPU tensor without dimensions")


def _count(name, args, kwargs):
    """Count an operation that would make the host wait."""
    if name in _READS:
        _wait(_READS[name])
    elif name in _INDEX:
        indices = [index for index in args[1] if index is not None]
        fills = len(args) > 2 and args[2].numel() == 1 and len(indices) == 1  # becomes masked_fill
        for index in indices:
            if index.dtype in (torch.bool, torch.uint8) and not fills:
                _wait("boolean index")
    elif name == "repeat_interleave" and kwargs.get("output_size") is None:
        _wait("repeat_interleave")


class _Dispatch(TorchDispatchMode):
    depth = 0

    def __enter__(self):
        _Dispatch.depth += 1
        return super().__enter__()

    def __exit__(self, *why):
        _Dispatch.depth -= 1
        return super().__exit__(*why)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.prim.device.default:
            return func(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


_LOW = {
    *(F.linear, F.scaled_dot_product_attention, torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm),
    *(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.addmm),
}
_HIGH = {
    *(F.cross_entropy, F.nll_loss, F.softmax, F.log_softmax, F.softplus, F.layer_norm, F.rms_norm),
    *(torch.softmax, torch.log_softmax, torch.Tensor.softmax, torch.Tensor.log_softmax, torch.exp, torch.Tensor.exp),
    *(torch.log, torch.Tensor.log, torch.cumsum, torch.Tensor.cumsum, torch.sum, torch.Tensor.sum, torch.pow),
    *(torch.norm, torch.Tensor.norm, torch.Tensor.pow, torch.Tensor.prod, torch.Tensor.rsqrt),
}


class _Cast(TorchFunctionMode):
    """What CUDA's autocast casts: products to bfloat16, sums and exponentials to float32."""

    on = True

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _Cast.on and (func in _LOW or func in _HIGH):
            dtype = torch.bfloat16 if func in _LOW else torch.float32

            def cast(value):
                if isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.bfloat16):
                    return value.to(dtype)
                return value

            args, kwargs = tree_map(cast, args), tree_map(cast, kwargs)
        return func(*args, **kwargs)


class _Autocast(contextlib.ContextDecorator):
    """A replacement of torch.autocast."""

    def __init__(self, device_type, dtype=None, enabled=True):
        self._casts = device_type == NAME and enabled

    def __enter__(self):
        self._before, self._mode = _Cast.on, _Cast() if self._casts else None
        _Cast.on = self._casts
        if self._mode is not None:
            self._mode.__enter__()
        return self

    def __exit__(self, *why):
        if self._mode is not None:
            self._mode.__exit__(*why)
        _Cast.on = self._before


@contextlib.contextmanager
def pretended(*, like_mps: bool = False) -> Iterator[None]:
    """Make tdiff compute on the device. `like_mps`: without float64 and the operations that torch 2.6 lacks on MPS."""
    with _imitations(like_mps):
        waits.clear()
        yield


@contextlib.contextmanager
def absent() -> Iterator[None]:
    """Restore the original torch temporarily within `pretended()`."""
    with contextlib.ExitStack() as stack:
        for target, attribute, value in _ORIGINALS:
            stack.enter_context(mock.patch.object(target, attribute, value))
        stack.enter_context(_disable_current_modes())
        yield


_ORIGINALS = tuple(
    (target, name, getattr(target, name))
    for target, name in ((torch, "Generator"), (torch, "autocast"), (torch, "tensor"), (torch.Tensor, "pin_memory"))
)


def _tensor(data, *, dtype=None, device=None, requires_grad=False):
    made = _ORIGINALS[2][2](data, dtype=dtype, requires_grad=requires_grad)
    return made if device is None else made.to(device)


@contextlib.contextmanager
def _imitations(like_mps: bool) -> Iterator[None]:
    from tdiff.core import devices
    from tdiff.core.diffusion import noise

    imitations = [
        (devices, "choose", lambda _name: NAME),
        (devices, "in_bfloat16", lambda wanted, _device: wanted == "bfloat16"),
        (torch, "Generator", DeviceGenerator),
        (torch, "autocast", _Autocast),
        (torch, "tensor", _tensor),
        (torch.Tensor, "pin_memory", _pin),
    ]
    if like_mps:
        imitations += [
            (noise, "precise", lambda _device: torch.float32),
            (sys.modules[__name__], "_refused_dtypes", {torch.float64}),
            (sys.modules[__name__], "_refused_operations", {"round.decimals"}),
        ]
    with contextlib.ExitStack() as stack:
        for target, attribute, value in imitations:
            stack.enter_context(mock.patch.object(target, attribute, value))
        stack.enter_context(_Dispatch())
        yield
