"""Several processes that train or score as one: started by torchrun, on one machine or on
many.

    torchrun --nproc-per-node 4 -- train_ucf101.py --run my_run --cycle 0

Every process runs the same script; each decodes and computes its shard of every batch. A
single process is the same code whose shard is everything. What is small goes over the CPU
(gloo), what lies on a GPU over NCCL.
"""

import atexit
import contextlib
import functools
import os
import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from claus.utils.runtime import UserError, processes_started

# parts of the work may take longer than others; torchrun ends all processes when one dies
PATIENCE = timedelta(days=1)
# all are started at once
MEETING = timedelta(minutes=10)
# in the error of a group that has lost a member
LOST = ("gloo", "nccl", "connection", "broken pipe", "store")


def world_size() -> int:
    """How many processes work together; 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0; the first one speaks and writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def together(main):
    """`main` for run_script, in one process or in several.

    Of several only the first prints while they work. Where one fails, the first to fail
    says why, in one line as always, and all end: those that wait for it are not left
    hanging.
    """

    @functools.wraps(main)
    def guarded():
        if processes_started() == 1:
            return main()
        check_environment()
        try:
            meet()
            with _quiet(rank() > 0):
                status = main()
            dist.barrier()
            dist.destroy_process_group()
            # gloo's threads, taken down with the interpreter, abort some processes (torch 2.14)
            atexit.register(_leave, status if isinstance(status, int) else 0)
            return status
        except (Exception, KeyboardInterrupt) as error:
            if not _first_to_fail():
                os._exit(2)
            atexit.register(_leave, 2)  # taking down a group that has lost a member could hang
            raise _readable(error) from error

    return guarded


def check_environment():
    """UserError unless all is there that torchrun tells each of its processes."""
    told = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in told if not os.environ.get(name)]
    numbers = [name for name in ("RANK", "MASTER_PORT") if name not in missing]
    wrong = [name for name in numbers if not os.environ[name].isdecimal()]
    if missing or wrong:
        raise UserError(
            f"the environment says WORLD_SIZE={os.environ['WORLD_SIZE']}, and "
            f"{(missing or wrong)[0]} {'is not set' if missing else 'is no number'}: unset "
            "WORLD_SIZE for one process, or start several with torchrun"
        )


def meet():
    """Find the other processes, as torchrun has told where; RuntimeError where they do not
    come.
    """
    size, number = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(*address, size, not agents and number == 0, timeout=MEETING)
    # of several starts of torchrun's each meets by itself
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"claus/{start}", store)
    dist.init_process_group("gloo", store=store, world_size=size, rank=number, timeout=PATIENCE)


@contextlib.contextmanager
def _quiet(yes):
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if yes:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _first_to_fail():
    """Whether no other process has failed before; where nobody can be asked, this one
    speaks.
    """
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=timedelta(seconds=5))
        return (
            store.add(f"claus/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1
        )
    except (RuntimeError, KeyError, ValueError):
        return True


def _readable(error):
    if isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST):
        return UserError(
            "another of the processes that work together has ended, so this one cannot "
            "continue; what was finished is kept, give the same command again (training: "
            "with --resume)"
        )
    return error


def _leave(status):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def own_device(device):
    """The device of this process: of several processes on `cuda` each takes the GPU of its
    number on its machine.
    """
    if world_size() == 1 or not device.startswith("cuda"):
        return device
    local = int(os.environ.get("LOCAL_RANK", rank()))
    if device != "cuda":
        raise UserError(
            f"--device {device} for {world_size()} processes; give --device cuda, and each "
            f"takes its own"
        )
    if local >= torch.cuda.device_count():
        raise UserError(
            f"process {local + 1} of this machine finds {torch.cuda.device_count()} GPUs; "
            f"lower --nproc-per-node"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


@functools.cache
def device_group(kind):
    """The process group for tensors on devices of this kind ("cpu" or "cuda"); all
    processes ask for it at once.
    """
    return (
        dist.new_group(backend="nccl", timeout=PATIENCE) if kind == "cuda" else dist.group.WORLD
    )


@functools.cache
def alone():
    """A process group of this process only; all processes ask for theirs at once."""
    return dist.new_subgroups(1)[0]


def gather(item):
    """[the item of each process], in the order of the processes. Any picklable object."""
    if world_size() == 1:
        return [item]
    items = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def broadcast_from_rank0(item):
    """The first process's item, in all of them."""
    items = [item]
    if world_size() > 1:
        dist.broadcast_object_list(items, src=0)
    return items[0]


def gather_rows(rows, counts):
    """Rows (b,...) of each process -> all of them (sum of counts, ...), in the order of the
    processes; no gradient.

    counts: b of each process, known to all.
    """
    rows = rows.detach()
    if world_size() == 1:
        return rows
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded, group=device_group(rows.device.type))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def same_buffers(module):
    """Give every process the first one's buffers (batch-norm statistics)."""
    for buffer in module.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, src=0, group=device_group(buffer.device.type))


def shard(items):
    """This process's contiguous part of a list: put together in order, the parts are the
    list.
    """
    items, n = list(items), world_size()
    return items[rank() * len(items) // n : (rank() + 1) * len(items) // n]


def barrier():
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()


class BatchShare:
    """A sampler's batches of `batch_size`, of each of which this process gets its
    contiguous part.

    Every process has batch_size / processes samples of a full batch; of a shorter one, at
    the end, the last processes have fewer or none. Their samples, one process after the
    other, are the batch of a single process.
    """

    def __init__(self, sampler, batch_size):
        if batch_size % world_size():
            raise UserError(
                f"--batch-size {batch_size} is the batch of all {world_size()} processes "
                f"and cannot be split evenly; give a multiple of {world_size()}"
            )
        self.sampler, self.batch_size, self.size = (
            sampler,
            batch_size,
            batch_size // world_size(),
        )

    def __len__(self):
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full * self.size + min(max(rest - rank() * self.size, 0), self.size)

    def __iter__(self):
        for place, key in enumerate(self.sampler):
            if place % self.batch_size // self.size == rank():
                yield key
