"""Restarts of unused codes, the initialization of a codebook, and the rollback of steps that are
not taken; the same on all processes."""

import math

from waveglow_vq.lobes.quantizers.initialization import choose_spread_frames, move_idle_codes
from waveglow_vq.lobes.quantizers.statistics import MERGE_TOLERANCE, merged_codes
from waveglow_vq.utils.distributed import broadcast_from_first, gather_frames, least_everywhere

import torch
from torch import nn

# Frames wanted for each code that is initialized: from fewer, whole groups of the data are missed.
FRAMES_PER_NEW_CODE = 4
# Share of the past that `usage()` keeps at each training step.
USAGE_DECAY = 0.99


class CodebookRestarts(nn.Module):
    """Initializes and restarts codes of the `codebook` [K, D] of a subclass, which replaces rows by
    `_set_rows(rows, frames, optimizer)`.

    Several processes do what one would with all their frames in one batch. For that they add up
    their sums, by one collective in each training forward, and gather frames where codes are placed
    among them. Everything that is kept follows from such sums, which have the same bits everywhere,
    and from random numbers seeded by `steps`; so it stays the same everywhere, and
    DistributedDataParallel need not send it around.
    """

    def __init__(self, codebook_size, codebook_dim, initialization, restart_after):
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim
        self.initialization = initialization
        self.restart_after = restart_after
        self.frozen = False
        filled = codebook_size if initialization == "normal" else 0
        self.register_buffer("filled", torch.tensor(filled))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("unused_steps", torch.zeros(codebook_size, dtype=torch.int64))
        self.register_buffer("recent_counts", torch.zeros(codebook_size))
        # Frames, squared error and squared deviation, decayed like recent_counts.
        self.register_buffer("recent_totals", torch.zeros(3))
        # Of this process's recent training forwards, newest first: the frames [N, D], and how many
        # of them belong to each item. From these codes restart. Not a buffer: it is this process's
        # own, and goes through `training_state`.
        self._recent = []
        # What the training forwards since the last optimizer step may have changed, as it was.
        self._before = None
        # `filled` and `steps` as the host knows them, to ask the device no more than needed.
        self._known = None
        # Until so many steps no code can be dead; 0: somebody has to look.
        self._none_dead_before = 0
        self._synchronized = False

    @torch.no_grad()
    def after_optimizer_step(self, optimizer=None, taken=True):
        """Restarts dead, merged and idle codes. Call it after every optimizer step: a parameter may
        not be replaced inside `forward`, where the graph still needs it. All processes call it
        together.

        Dead is a code that no frame has chosen for `restart_after` training steps. Merged is one
        that lies on another, idle one that would do more good elsewhere (`move_idle_codes`); both
        are looked for every `restart_after` steps. They move to recent encoder outputs where
        codes are missing.

        Arguments
        ---------
        optimizer : torch.optim.Optimizer
            Holds the codebook; its moments of the restarted rows begin again.
        taken : bool
            False if the optimizer left its step out, since the gradient was not finite. Then all
            that the training forwards since the last call have changed is put back as it was.

        Returns
        -------
        restarted : int
            Number of codes that were replaced.
        """
        before, self._before = self._before, None
        if before is None:
            return 0
        if not taken:
            self._put_back(before)
            return 0
        if not self.training or self.frozen or not self.restart_after:
            return 0
        filled, steps = self._known_numbers()
        if filled < self.codebook_size:
            return 0
        due = steps // self.restart_after > before["known"][1] // self.restart_after
        # The same answer everywhere, as steps and unused_steps are.
        if not (due or self._any_dead(steps)):
            return 0
        restart = self.unused_steps >= self.restart_after
        recent = self._recent_everywhere()
        if not len(recent):
            return 0
        rows, places = self._find_restarts(recent.to(self.codebook.dtype), restart, due)
        # All have found the same, but for the rounding of different devices: the first decides.
        count = int(broadcast_from_first(torch.tensor(len(rows), device=places.device)))
        if not count:
            return 0
        rows = broadcast_from_first(_resize(rows, count))
        places = broadcast_from_first(_resize(places, count))
        self._set_rows(rows, places, optimizer)
        self.unused_steps[rows] = 0
        return count

    def training_state(self):
        """State that `state_dict` lacks and exact resuming needs: this process's recent
        frames, and what a step that is not taken would put back. Tensors, numbers, lists and dicts.
        """
        return {"recent": self._recent, "before": self._before}

    def load_training_state(self, state):
        """Loads what `training_state` gave; call it after `load_state_dict`."""
        device = self.codebook.device
        self._recent = _move(state["recent"], device)
        self._before = _move(state["before"], device)

    # ---- the parts

    def _any_dead(self, steps):
        """Whether a code is dead. The device is asked no more often than one can have died since:
        the code that is nearest to it ages by one in each step."""
        if steps < self._none_dead_before:
            return False
        self._none_dead_before = steps + self.restart_after - int(self.unused_steps.max())
        return steps >= self._none_dead_before

    def _load_from_state_dict(self, *arguments, **options):
        super()._load_from_state_dict(*arguments, **options)
        self._recent, self._before, self._known = [], None, None
        self._none_dead_before = 0

    def _known_numbers(self):
        if self._known is None:
            self._known = [int(self.filled), int(self.steps)]
        return self._known

    @torch.no_grad()
    def _begin(self):
        """Before a training forward: saves what it may change, for rollback."""
        if not self._synchronized:
            # Once, since nobody does it later; a parameter is DistributedDataParallel's to send.
            for buffer in self.buffers():
                broadcast_from_first(buffer)
            self._synchronized, self._known = True, None
        if self._before is not None:
            return
        known = self._known_numbers()
        changing = dict(self.named_buffers())
        if known[0] < self.codebook_size:
            changing["codebook"] = self.codebook
        self._before = {
            "tensors": {name: value.detach().clone() for name, value in changing.items()},
            "known": list(known),
            "recent": self._recent,
        }

    def _put_back(self, before):
        for name, value in before["tensors"].items():
            getattr(self, name).copy_(value)
        self._known, self._recent = list(before["known"]), before["recent"]

    def _generator(self, purpose):
        """Random numbers that are the same on every process and in a run that is resumed."""
        _, steps = self._known_numbers()
        return torch.Generator().manual_seed(2 * steps + purpose)

    @torch.no_grad()
    def _initialize(self, frames, items):
        """Fills the codebook with frames, over several forwards if one holds too few."""
        filled, _ = self._known_numbers()
        if filled == self.codebook_size:
            return
        frames = gather_frames(frames, items)
        wanted = max(1, len(frames) // FRAMES_PER_NEW_CODE)
        count = min(self.codebook_size - filled, wanted)
        codes = self.codebook[:filled].to(frames.dtype)
        chosen, _, _ = choose_spread_frames(frames, count, codes, generator=self._generator(0))
        # All have chosen the same, but for the rounding of different devices: the first decides.
        chosen = broadcast_from_first(chosen.contiguous())
        rows = torch.arange(filled, filled + count, device=frames.device)
        self._set_rows(rows, chosen.to(self.codebook.dtype))
        self._known[0] = filled + count
        self.filled.fill_(filled + count)

    @torch.no_grad()
    def _remember(self, frames, items, shared):
        """Updates usage, by the sums of all processes, and this process's recent frames."""
        counts = shared["counts"]
        totals = [shared[key] for key in ("frames", "squared_error", "squared_deviation")]
        self._known[1] += 1
        self.steps += 1
        self.unused_steps += 1
        self.unused_steps.masked_fill_(counts > 0, 0)
        weight = 1 - USAGE_DECAY
        self.recent_counts.mul_(USAGE_DECAY).add_(counts.to(self.recent_counts), alpha=weight)
        totals = torch.stack(totals).to(self.recent_totals)
        self.recent_totals.mul_(USAGE_DECAY).add_(totals, alpha=weight)
        if not self.restart_after:
            return
        # So many forwards that their frames, even if other processes had none, are enough.
        recent, total = [], 0
        for forward in [[frames.clone(), items], *self._recent]:
            recent.append(forward)
            total += len(forward[0])
            if total >= self._recent_capacity:
                break
        self._recent = recent

    @property
    def _recent_capacity(self):
        return FRAMES_PER_NEW_CODE * self.codebook_size

    def _recent_everywhere(self):
        """The recent frames [N, D] of all processes, from as few forwards as suffice."""
        found = [self.codebook[:0]]
        total = 0
        # A process that was resumed without its frames has fewer.
        for forward in range(least_everywhere(len(self._recent), self.codebook.device)):
            found.append(gather_frames(*self._recent[forward]))
            total += len(found[-1])
            if total >= self._recent_capacity:
                break
        found = torch.cat([frames.to(found[-1].dtype) for frames in found])
        if total > self._recent_capacity:
            order = torch.randperm(total, generator=self._generator(1))
            found = found[order[: self._recent_capacity].to(found.device)]
        return found

    def _find_restarts(self, recent, restart, due):
        """Rows [M] of the codes to be replaced, and their places [M, D] among the recent frames."""
        codebook = self.codebook.detach()
        frames, _, deviation = self.recent_totals.tolist()
        tolerance = MERGE_TOLERANCE * math.sqrt(deviation / frames) if frames > 0 else 0.0
        if due:
            restart = restart | merged_codes(codebook, tolerance)
        rows = restart.nonzero()[:, 0]
        places = codebook[:0]
        generator = self._generator(1)
        if len(rows):
            places, distances, _ = choose_spread_frames(
                recent, len(rows), codebook[~restart], generator=generator
            )
            # A frame that lies on a code would only merge again.
            useful = distances > tolerance**2
            rows, places = rows[useful], places[useful]
        elif due and self.codebook_size > 1:
            limit = max(1, self.codebook_size // 16)
            rows, places = move_idle_codes(recent, codebook, limit, generator=generator)
        return rows, places


def _move(value, device):
    """Copies of all tensors in nested lists and dicts, on `device`."""
    if isinstance(value, dict):
        return {key: _move(part, device) for key, part in value.items()}
    if isinstance(value, list):
        return [_move(part, device) for part in value]
    return value.detach().to(device, copy=True) if isinstance(value, torch.Tensor) else value


def _resize(tensor, count):
    """A contiguous tensor of `count` rows to receive another process's, or the same one's own."""
    return (
        tensor.contiguous() if len(tensor) == count else tensor.new_empty(count, *tensor.shape[1:])
    )
