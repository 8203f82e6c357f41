"""Files of tensors: read whatever wrote them, refused in one way when they are damaged or unsafe; written as safetensors.

Pickles are read with ``weights_only=True`` and never written.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, WeightsError
from ..support.files import replacing
from ..support.memory import is_out_of_memory

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")

NetT = TypeVar("NetT", bound=nn.Module)


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a pickled state dict, by name.

    Raises:
        CheckpointError: as :func:`read_tensors`.
    """
    return read_tensors(path)[0]


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file or of a pickled state dict, by name, and the metadata of the former.

    Raises:
        CheckpointError: missing, damaged, not a state dict of ordinary tensors, or a pickle that holds code.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: no such file. Check the path.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: a model file ends in {', '.join(SUFFIXES)}.")
    if suffix == ".safetensors":
        if re.search(r"[\ud800-\udfff]", str(path)):  # stand for what is no text, which safetensors does not take
            raise CheckpointError(f"{path}: its name, or that of its folder, is no UTF-8. Rename it.")
        try:
            with _readable(path), safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: damaged or no safetensors file ({error}). Download it again.") from error
    content = load_pickled(path, "Download it again, or, if you trust it, have it converted to safetensors elsewhere.")
    for wrapper in ("g_ema", "params_ema", "params", "state_dict"):  # trainers wrap the state dict under such names
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path}: holds no state dict of tensors. Pass the generator's weights file.")
    if odd := next((name for name, value in content.items() if not _is_plain(value)), ""):
        raise CheckpointError(f"{path}: {odd} is sparse, nested, quantised or without numbers. Save it as an ordinary tensor.")
    return content, {}


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)


def load_pickled(path: Path, advice: str) -> object:
    """Return what a file of ``torch.save`` holds, tensors and plain values only.

    Args:
        path: the file.
        advice: what to do about one that cannot be read, a sentence.

    Raises:
        CheckpointError: it is damaged, cannot be read, or holds more.
    """
    if _is_tar(path):  # PyTorch before 2.6 runs the code in one, whatever it is asked
        raise CheckpointError(f"{path}: refused: a tar file, as of the first PyTorch; loading it could run code. {advice}")
    if _is_compressed(path):  # torch.save never does that, and what it would unpack to has no limit
        raise CheckpointError(f"{path}: refused: its content is compressed, as in no file that PyTorch writes. {advice}")
    try:
        with _readable(path), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # the error below says it
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: damaged, or it holds more than tensors and loading it could run code. {advice}"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise KeyError, IndexError, struct.error and more
        told = str(error).partition(". ")[0]  # what follows is advice for other programs
        reason = told if " " in told else type(error).__name__
        raise CheckpointError(f"{path}: damaged or no file of tensors ({reason}). {advice}") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tell of a file that the block cannot read through no fault of the file's.

    Raises:
        CheckpointError: no right to read it, no memory for it, or a disk that fails.
    """
    try:
        with open(path, "rb"):  # safetensors calls a file without the right to read it missing
            pass
        yield
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # damaged offsets lead out of the file
            raise
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}). Look at its permissions and disk.") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Damaged bytes may ask for any amount, too.
        raise CheckpointError(
            f"{path}: too little memory to read it ({str(error) or 'none left'}). Close other programs; if that does not help, "
            "the file is damaged."
        ) from error


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as file:  # as PyTorch asks
            return file.next() is not None  # one of zeros, as a power cut leaves, passes for one without members
    except (tarfile.TarError, OSError):  # one that cannot be read is told of by what reads it
        return False


def _is_compressed(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            # Its tensors: the code in a TorchScript archive is.
            return any(entry.compress_type != zipfile.ZIP_STORED and "/data" in entry.filename for entry in file.infolist())
    except Exception:  # of an older layout, or damaged, which makes zipfile raise anything: PyTorch says so
        return False


def assigned(make: Callable[[], NetT], state: Mapping[str, Tensor]) -> NetT:
    """Return the network that ``make`` builds, in eval mode, with the tensors of ``state``: no weights drawn, none copied.

    Raises:
        RuntimeError: they are not those of the network.
    """
    with torch.device("meta"):
        net = make()
    if problems := _misfits(net.state_dict(), state):
        raise RuntimeError("; ".join(problems))
    net.load_state_dict(dict(state), assign=True)
    return net.eval()


def _misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return in what the tensors of ``state`` are not those ``wanted``: how many, and the first."""
    both = [name for name in wanted if name in state]
    kinds = {
        "missing": [name for name in wanted if name not in state],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [name for name in both if wanted[name].shape != state[name].shape],
        "not of plain numbers": [name for name in both if wanted[name].is_floating_point() != state[name].is_floating_point()],
    }
    return [f"{len(names)} {what}, first {names[0]}" for what, names in kinds.items() if names]


def whole(make: Callable[[], NetT], state: Mapping[str, Tensor], what: str) -> NetT:
    """Do as :func:`assigned`, for a file that somebody published.

    Raises:
        CheckpointError: the tensors are not those of the network, called ``what``.
    """
    try:
        return assigned(make, state)
    except RuntimeError as error:
        raise CheckpointError(f"The tensors are not those of a whole {what}. Download the file again. ({error})") from error


@contextmanager
def weights_of(network: str, path: Path) -> Iterator[None]:
    """Turn what a wrong or unreadable file makes of the block, which reads and loads it, into one error that names both.

    Raises:
        WeightsError: the file at ``path`` does not hold the weights of ``network``.

    Example:
        >>> with weights_of("ParseNet", path):  # doctest: +SKIP
        ...     net.load_state_dict(read_state_dict(path))
    """
    try:
        yield
    except CheckpointError as error:
        raise WeightsError(f"{error} Needed: the weights of {network}.") from error
    except (RuntimeError, KeyError, TypeError, ValueError) as error:  # other tensors, or other metadata
        raise WeightsError(f"{path}: not the weights of {network} ({error}). Replace the file, or delete it.") from error


def check_suffix(path: Path) -> None:
    """Look whether tensors can be saved as ``path``.

    Raises:
        CheckpointError: it does not end in ``.safetensors``.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: models are saved as .safetensors; give the file that suffix.")


def write_described(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None,
    licence: str,
    provenance: Mapping[str, Any],
    **facts: str,
) -> None:
    """Write a network's tensors, those of floats in ``dtype`` (None: as they are), with what is to be known of them as metadata.

    Raises:
        CheckpointError: as :func:`write_tensors`.
    """
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in state.items()
    }
    write_tensors(path, stored, {**facts, "licence": licence, "provenance": json.dumps(dict(provenance))})


def described(path: Path, what: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a file of :func:`write_described` says of itself, for people, and its metadata as they are.

    Raises:
        CheckpointError: as :func:`read_tensors`.
        KeyError, ValueError: not such a file.
    """
    tensors, metadata = read_tensors(path)
    told = {
        "file": str(path),
        "network": what,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "licence": metadata["licence"],
        "provenance": json.loads(metadata["provenance"]),
    }
    return told, metadata


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. Atomic: never half a file.

    Raises:
        CheckpointError: it cannot be written, or its name has another ending.
    """
    check_suffix(path)
    with replacing(path, CheckpointError, disk_full=SafetensorError) as temporary:
        save_file(dict(tensors), temporary, dict(metadata))
