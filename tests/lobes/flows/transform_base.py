"""What every transform has to hold to, tested in one place (see transforms.py for the contract)."""

from waveglow_vq.audio.features import LogMel
from waveglow_vq.lobes.flows.transforms import FlowContext

import torch


def tiny_features(**changes):
    """A feature contract so small that whole Jacobians can be taken: 16 samples per frame."""
    options = {
        "sample_rate": 8000,
        "n_fft": 64,
        "win_length": 64,
        "hop_length": 16,
        "n_mels": 8,
        "f_max": 4000.0,
    }
    return LogMel(**{**options, **changes})


def randomized(module, scale=0.2, seed=0):
    """Moves every parameter by noise, in fp64: couplings and FiLM are identities at first, and a
    test of an identity tests nothing."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += scale * noise
    return module


def random_tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def to_dtype(context, dtype):
    """The context with its floating point tensors (booleans and lengths stay) in ``dtype``."""
    changed = {
        name: value.to(dtype)
        for name, value in context._asdict().items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    return context._replace(**changed)


class TransformContract:
    """Subclasses name their ``cases``: functions that return ``(transform, x, context)`` in fp64
    for a batch of two."""

    cases = {}
    fp32_tolerance = 2e-4

    def pytest_generate_tests(self, metafunc):
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases))

    def build(self, case):
        torch.manual_seed(0)
        transform, x, context = self.cases[case]()
        return transform.eval(), x, context

    def valid(self, x, context):
        """Booleans like ``x``: what is not padding."""
        mask = getattr(context, "mask", None)
        return torch.ones_like(x, dtype=torch.bool) if mask is None else mask.expand_as(x).bool()

    def test_is_not_the_identity(self, case):
        transform, x, context = self.build(case)
        y, logdet = transform(x, context)
        assert (y - x).abs().max() > 0.05 and logdet.abs().min() > 1e-3

    def test_round_trip(self, case):
        transform, x, context = self.build(case)
        valid = self.valid(x, context)
        y, _ = transform(x, context)
        back = transform.inverse(y, context)
        torch.testing.assert_close(back[valid], x[valid], rtol=0, atol=1e-9)
        z = random_tensor(*y.shape, seed=5)
        there, _ = transform(transform.inverse(z, context), context)
        torch.testing.assert_close(there[valid], z[valid], rtol=0, atol=1e-8)

    def test_logdet_is_that_of_the_jacobian(self, case):
        transform, x, context = self.build(case)
        _, logdet = transform(x, context)
        jacobian = torch.autograd.functional.jacobian(
            lambda flat: transform(flat.view_as(x), context)[0].flatten(),
            x.flatten(),
            vectorize=True,
        )
        size = x[0].numel()
        valid = self.valid(x, context)
        for b in range(len(x)):
            rows = torch.arange(b * size, (b + 1) * size)[valid[b].flatten()]
            own = jacobian[rows][:, rows]
            expected = torch.linalg.slogdet(own).logabsdet
            torch.testing.assert_close(logdet[b], expected, rtol=1e-8, atol=1e-8)
            others = torch.ones(len(jacobian), dtype=torch.bool)
            others[rows] = False
            # Neither another item nor padding has any influence.
            assert not jacobian[rows][:, others].any()

    def test_logdet_shape_and_dtype(self, case):
        transform, x, context = self.build(case)
        y, logdet = transform(x, context)
        assert y.shape == x.shape and logdet.shape == (len(x),)
        assert y.dtype == logdet.dtype == torch.float64

    def test_stays_in_fp32_under_autocast(self, case):
        transform, x, context = self.build(case)
        valid = self.valid(x, context)
        transform, x = transform.float(), x.float()
        context = to_dtype(context, torch.float32)
        y, logdet = transform(x, context)
        assert y.dtype == logdet.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            y_low, logdet_low = transform(x, context)
            back = transform.inverse(y_low, context)
        assert y_low.dtype == logdet_low.dtype == back.dtype == torch.float32
        # Networks may be rounded to bf16, the flow may not: what it did, it undoes.
        torch.testing.assert_close(
            back[valid], x[valid], rtol=self.fp32_tolerance, atol=self.fp32_tolerance
        )
        torch.testing.assert_close(logdet_low, logdet, rtol=0.05, atol=0.05 * x[0].numel() ** 0.5)

    def test_gradient_reaches_parameters_and_input(self, case):
        transform, x, context = self.build(case)
        x = x.requires_grad_()
        y, logdet = transform(x, context)
        loss = (y[self.valid(x, context)].square().sum() / 2 - logdet.sum()) / x.numel()
        loss.backward()
        assert x.grad.abs().max() > 0
        for name, parameter in transform.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


def flow_context(channels=6, frames=3, per_frame=2, speaker=0, seed=3):
    """A random :class:`FlowContext` for a batch of two."""
    return FlowContext(
        local=random_tensor(2, channels, frames, seed=seed) if channels else None,
        speaker=random_tensor(2, speaker, seed=seed + 1) if speaker else None,
        groups_per_frame=per_frame,
    )


def ragged(context, groups, shorter):
    """The context with a mask: the second item has ``shorter`` of ``groups`` groups."""
    ends = torch.tensor([groups, shorter])[:, None, None]
    return context._replace(mask=(torch.arange(groups) < ends).double())
