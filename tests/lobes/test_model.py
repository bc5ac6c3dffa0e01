from waveglow_vq.errors import UserError
from waveglow_vq.lobes.conditioners.mel import MelConditioner
from waveglow_vq.lobes.conditioners.mel_vq import MelVQConditioner
from waveglow_vq.lobes.conditioners.pitch_condition import normalize_pitch
from waveglow_vq.lobes.conditioners.speaker_condition import SpeakerCondition
from waveglow_vq.lobes.conditioners.wav_vq import WaveVQConditioner
from waveglow_vq.lobes.flows.waveglow import WaveGlow, draw_noise
from waveglow_vq.lobes.model import WaveGlowVQ
from waveglow_vq.lobes.quantizers.soft_em import EMAQuantizer, SoftEMQuantizer
from waveglow_vq.utils.masking import crop_frames, masked_l1

import pytest
import torch

from tests.lobes.flows.transform_base import random_tensor, randomized, tiny_features

HOP = 16


def build(
    local="mel",
    update="soft_em",
    estimator="ste",
    temperature="relative",
    mel_head=None,
    options=None,
    random=True,
    conditioner_options=None,
    **vocoder,
):
    """A model with every part and few parameters, in fp64, and moved away from its start."""
    features = tiny_features()
    if update == "soft_em":
        quantizer = SoftEMQuantizer(10, 6, temperature, estimator=estimator)
    else:
        quantizer = EMAQuantizer(10, 6, estimator=estimator)
    prior = vocoder.get("prior", "envelope")
    if local == "mel":
        conditioner = MelConditioner(features, channels=7, layers=1)
    elif local == "mel_vq":
        conditioner = MelVQConditioner(
            features,
            quantizer,
            2,
            7,
            1,
            1,
            speaker_channels=vocoder.get("speaker_channels", 0),
            **(conditioner_options or {}),
        )
    else:
        head = prior == "envelope" if mel_head is None else mel_head
        conditioner = WaveVQConditioner(features, quantizer, (2, 4), 7, 1, head)
    vocoder = {
        "condition_channels": conditioner.channels,
        "condition_hop": conditioner.hop,
        "group_size": 4,
        "flows": 2,
        "early_every": 1,
        "early_size": 1,
        "layers": 2,
        "channels": 6,
        "envelope": {"order": 6},
        **vocoder,
    }
    speakers = None
    if channels := vocoder.get("speaker_channels"):
        speakers = SpeakerCondition(4, channels)
    flows = WaveGlow(features, **vocoder)
    model = WaveGlowVQ(conditioner, flows, speakers=speakers, **(options or {}))
    return randomized(model, 0.1) if random else model.double()


def utterances(*frames, seed=0):
    """Waveforms of whole hops and their log-mels with one frame more, padded with zeros."""
    wavs = [0.1 * random_tensor(n * HOP, seed=seed + n) for n in frames]
    mels = [tiny_features()(wav[None].float())[0].double() for wav in wavs]
    wav = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    mel = torch.nn.utils.rnn.pad_sequence([m.T for m in mels], batch_first=True).transpose(1, 2)
    lens = torch.tensor(frames, dtype=torch.float32)
    return wav, mel, lens / max(frames), (lens + 1) / (max(frames) + 1)


EVERYTHING = {
    "mel": {},
    "mel, white": {"prior": "white"},
    "mel, film": {"use_film": True},
    "mel, no weight norm": {"use_weight_norm": False},
    "mel, group": {"condition_geometry": "group"},
    "mel, sample": {"condition_geometry": "sample"},
    "mel, speaker": {"speaker_channels": 3, "use_film": True},
    "mel_vq": {"local": "mel_vq"},
    "mel_vq, speaker": {
        "local": "mel_vq",
        "speaker_channels": 3,
        "use_film": True,
        "options": {"adversary_weight": 0.5},
        "conditioner_options": {"use_instance_norm": True, "use_pitch": True, "pitch_stride": 2},
    },
    "mel_vq, white": {"local": "mel_vq", "prior": "white"},
    "mel_vq, rotation": {"local": "mel_vq", "estimator": "rotation"},
    "mel_vq, fixed": {"local": "mel_vq", "temperature": "fixed"},
    "mel_vq, ema": {"local": "mel_vq", "update": "ema"},
    "mel_vq, ema, rotation": {"local": "mel_vq", "update": "ema", "estimator": "rotation"},
    "mel_vq, film, group": {"local": "mel_vq", "use_film": True, "condition_geometry": "group"},
    "mel_vq, sample": {"local": "mel_vq", "condition_geometry": "sample"},
    "wav_vq, white": {"local": "wav_vq", "prior": "white"},
    "wav_vq": {"local": "wav_vq"},
    "wav_vq, ema, film": {"local": "wav_vq", "update": "ema", "use_film": True},
    "wav_vq, sample": {"local": "wav_vq", "condition_geometry": "sample", "prior": "white"},
}


def speakers(options, items=2, frames=8):
    """Keyword arguments that say who speaks, an unknown one among them, and at which pitch."""
    if not options.get("speaker_channels"):
        return {}
    arguments = {"speaker": torch.tensor([1, -1, 3])[:items]}
    if (options.get("conditioner_options") or {}).get("use_pitch"):
        log_f0 = 5 + 0.2 * random_tensor(items, frames, seed=9)
        log_f0 = log_f0 * (torch.arange(frames) % 5 != 2)
        statistics = torch.tensor([[5.0, 0.2]]).double().expand(items, 2)
        arguments["pitch"] = normalize_pitch(log_f0, statistics)
    return arguments


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_a_training_step_reaches_every_parameter(name):
    options = EVERYTHING[name]
    torch.manual_seed(0)
    model = build(**options).train()
    wav, mel, *_ = utterances(12, 12)
    # Segments: four frames out of eight that the conditioner sees.
    starts = torch.tensor([1, 3])
    segments = torch.stack([wav[b, s * HOP : (s + 4) * HOP] for b, s in enumerate(starts)])
    history = random_tensor(2, model.vocoder.history, seed=4)
    arguments = (segments, mel[:, :, :8], starts, history)
    who = speakers(options)
    model(*arguments, **who)  # the first steps fill the codebook
    output = model(*arguments, **who)
    assert output.loss.shape == () and torch.isfinite(output.loss)
    output.loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A normalized weight of one input has a sign and no other direction.
    without = [n for n in without if "steps.1.coupling.network.start.param" not in n]
    assert not without, f"no gradient for {without}"
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    expected = {"nll"}
    if "vq" in name:
        expected |= {"commitment"} if "ema" in name else {"commitment", "codebook"}
        if name not in ("wav_vq, white", "wav_vq, sample"):
            expected.add("mel_l1")
        if model.adversary is not None:
            expected.add("adversary")
        assert output.statistics and model.quantizer is model.conditioner.quantizer
    else:
        assert output.statistics == {} and model.quantizer is None
    assert set(output.terms) == expected
    assert not any(term.requires_grad for term in output.terms.values())


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_ragged_batch_equals_the_weighted_mean_of_single_utterances(name):
    options = EVERYTHING[name]
    torch.manual_seed(0)
    model = build(**options).eval()
    frames = (9, 4, 7)
    wav, mel, wav_lens, mel_lens = utterances(*frames)
    who = speakers(options, 3, mel.shape[-1])
    both = model(wav, mel, wav_lens=wav_lens, mel_lens=mel_lens, **who).terms
    total = {"nll": 0.0, "mel_l1": 0.0}
    for b, n in enumerate(frames):
        one = {name: x[b : b + 1] for name, x in who.items()}
        if "pitch" in one:
            one["pitch"] = one["pitch"][:, : n + 1]
        # Every frame of a mel counts in its L1; a wave's own head predicts one fewer.
        weight = {"nll": n, "mel_l1": n if "wav" in name else n + 1}
        terms = model(wav[b : b + 1, : n * HOP], mel[b : b + 1, :, : n + 1], **one).terms
        for key in total:
            if key in terms:
                total[key] += terms[key] * weight[key]
    assert both["nll"].item() == pytest.approx(total["nll"].item() / sum(frames), abs=1e-7)
    if "mel_l1" in both:
        count = sum(frames) if "wav" in name else sum(frames) + 3
        assert both["mel_l1"].item() == pytest.approx(total["mel_l1"].item() / count, abs=1e-6)


@pytest.mark.parametrize("options", [{"flows": 0}, {"kernel_size": 1, "use_film": True}])
def test_segment_with_history_is_the_crop_of_the_utterance(options):
    """With flows that see no neighbours, z of a segment is the crop of the utterance's z, and its
    likelihood counts for that part: mel, condition, history and start all fit together."""
    features = tiny_features()
    vocoder = {"group_size": 4, "layers": 2, "channels": 6, "early_every": 1, "early_size": 1}
    vocoder = WaveGlow(features, 8, envelope={"order": 40}, **{**vocoder, "flows": 2, **options})
    model = randomized(
        WaveGlowVQ(MelConditioner(features, 8, layers=1, kernel_size=1), vocoder), 0.2
    ).eval()
    wav, mel, *_ = utterances(20, 20)
    whole, _, samples = model.to_noise(wav, mel, model.conditioner(mel))
    assert samples.tolist() == [320, 320]
    # The segment stands anywhere within the mel, at its very end too.
    for begins, firsts in (((0, 4), (0, 2)), ((16, 9), (11, 4)), ((7, 16), (7, 11))):
        begins, firsts = torch.tensor(begins), torch.tensor(firsts)
        padded = torch.nn.functional.pad(wav, (40, 0))
        segment, history, crop, expected = [], [], [], []
        for b in range(2):
            start = begins[b] * HOP
            segment.append(wav[b, start : start + 4 * HOP])
            history.append(padded[b, start : start + 40])
            crop.append(mel[b, :, firsts[b] : firsts[b] + 10])
            expected.append(whole[b, :, start // 4 : start // 4 + 4 * HOP // 4])
        crop = torch.nn.utils.rnn.pad_sequence([c.T for c in crop], batch_first=True)
        crop = crop.transpose(1, 2)
        z, logdet, _ = model.to_noise(
            torch.stack(segment),
            crop,
            model.conditioner(crop),
            begins - firsts,
            torch.stack(history),
        )
        torch.testing.assert_close(z, torch.stack(expected), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["mel", "mel, sample", "mel_vq", "mel_vq, film, group", "wav_vq"])
def test_sample_of_a_batch_equals_the_single_ones(name):
    model = build(**EVERYTHING[name]).float().eval()
    wav, mel, wav_lens, mel_lens = (x.float() for x in utterances(9, 4, 7))
    by_wave = name == "wav_vq"
    features, lens, *_ = model.conditioner.inputs(mel, wav, mel_lens, wav_lens)
    frames = [9, 4, 7] if by_wave else [10, 5, 8]
    with torch.no_grad():
        both = model.sample(model.conditioner(features, lens), lens, generator=7)
        assert both.shape == (3, max(frames) * HOP) and torch.isfinite(both).all()
        for b, n in enumerate(frames):
            one = features[b : b + 1, ..., : n * HOP if by_wave else n]
            alone = model.sample(model.conditioner(one), generator=7)
            assert alone.shape == (1, n * HOP)
            torch.testing.assert_close(both[b : b + 1, : n * HOP], alone, rtol=0, atol=2e-5)
            assert not both[b, n * HOP :].any()


def test_sample_undoes_to_noise():
    model = build("mel_vq").eval()
    wav, mel, *_ = utterances(6, 6)
    condition = model.conditioner(mel)
    local, log_mel = condition.local[..., :6], condition.log_mel[..., :6]
    # Without the frame behind the end on both sides.
    z, _ = model.vocoder(wav, local, log_mel)
    torch.testing.assert_close(model.vocoder.inverse(z, local, log_mel), wav, rtol=0, atol=1e-8)


def test_noise_and_temperature():
    model = build().float().eval()
    _, mel, *_ = utterances(5, 5)
    with torch.no_grad():
        condition = model.conditioner(mel.float())

        def draw(sigma=1.0, generator=None):
            return model.sample(condition, sigma=sigma, generator=generator)

        assert torch.equal(draw(generator=3), draw(generator=3))
        assert not torch.equal(draw(generator=3), draw(generator=4))
        seeded = torch.Generator().manual_seed(3)
        first, second = draw(generator=seeded), draw(generator=seeded)
        assert not torch.equal(first, second)
        assert torch.equal(first, draw(generator=torch.Generator().manual_seed(3)))
        torch.manual_seed(5)
        free = draw()
        torch.manual_seed(5)
        assert torch.equal(free, draw()) and not torch.equal(free, draw())
        assert torch.equal(draw(0.0), draw(0.0))
        assert not torch.equal(draw(0.5, 3), draw(1.0, 3))
        with pytest.raises(UserError, match="sigma: -0.1"):
            draw(-0.1)


def test_longer_noise_begins_with_the_shorter_and_is_standard_normal():
    like = torch.zeros(2, 1, 1)
    short, long = draw_noise(like, 8, 50, 1), draw_noise(like, 8, 4000, 1)
    assert short.shape == (2, 8, 50) and torch.equal(long[..., :50], short)
    assert torch.equal(long[0], long[1])
    assert long.mean().abs() < 0.03 and abs(long.std().item() - 1) < 0.03
    drawn = draw_noise(like, 8, 50, torch.Generator().manual_seed(1))
    assert torch.equal(drawn[0], short[0]) and not torch.equal(drawn[0], drawn[1])


def test_sample_in_fp64():
    model = build().eval()
    _, mel, *_ = utterances(5)
    assert model.sample(model.conditioner(mel), generator=1).dtype == torch.float64


@pytest.mark.parametrize("switch", [True, False])
def test_envelope_gradient_switch(switch):
    """Only through the envelope does the likelihood depend on the head's prediction."""
    torch.manual_seed(0)
    model = build("mel_vq", options={"envelope_gradient": switch, "mel_weight": 0.0}).train()
    wav, mel, *_ = utterances(6, 6)
    model(wav, mel).loss.backward()
    assert bool(model.conditioner.mel_head.weight.grad.any()) is switch
    # The condition itself always carries the gradient.
    assert model.conditioner.from_code.weight.grad.any()


def test_loss_is_the_weighted_sum_of_its_terms():
    torch.manual_seed(0)
    model = build("mel_vq", options={"mel_weight": 3.0, "quantizer_weight": 0.5}).eval()
    wav, mel, *_ = utterances(6, 6)
    loss, terms, *_ = model(wav, mel)
    quantizer = terms["codebook"] + terms["commitment"]
    expected = terms["nll"] + 3 * terms["mel_l1"] + 0.5 * quantizer
    assert loss.item() == pytest.approx(expected.item(), rel=1e-7)


def test_training_sigma():
    wav, mel, *_ = utterances(6)
    torch.manual_seed(0)
    one = build()
    half = WaveGlowVQ(one.conditioner, one.vocoder, sigma=0.5)
    z, logdet, samples = one.to_noise(wav, mel, one.conditioner(mel))
    energy = z.square().sum() / samples
    difference = half(wav, mel).loss - one(wav, mel).loss
    assert difference.item() == pytest.approx((energy * (2 - 0.5)).item(), rel=1e-9)


def test_eval_changes_nothing():
    for update in ("soft_em", "ema"):
        torch.manual_seed(0)
        model = build("mel_vq", update=update)
        wav, mel, *_ = utterances(6, 6)
        model.train()(wav, mel)
        before = {k: v.clone() for k, v in model.eval().state_dict().items()}
        assert torch.equal(model(wav, mel).loss, model(wav, mel).loss)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["mel", "mel_vq", "wav_vq", "mel_vq, sample"])
def test_trains_under_bf16_autocast(name):
    torch.manual_seed(0)
    model = build(**EVERYTHING[name]).float().train()
    wav, mel, wav_lens, mel_lens = (x.float() for x in utterances(9, 6))
    model(wav, mel)
    plain = model.eval()(wav, mel, wav_lens=wav_lens, mel_lens=mel_lens)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(wav, mel, wav_lens=wav_lens, mel_lens=mel_lens)
        low.loss.backward()
    assert low.loss.dtype == torch.float32
    assert low.terms["nll"].item() == pytest.approx(plain.terms["nll"].item(), abs=0.2)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_state_survives_saving(tmp_path):
    torch.manual_seed(0)
    model = build("mel_vq").train()
    wav, mel, *_ = utterances(6, 6)
    model(wav, mel)
    torch.save(model.state_dict(), tmp_path / "model.ckpt")
    other = build("mel_vq", random=False)
    other.load_state_dict(torch.load(tmp_path / "model.ckpt", weights_only=True))
    assert torch.equal(other.eval()(wav, mel).loss, model.eval()(wav, mel).loss)


def test_crop_frames():
    x = torch.arange(12.0).view(2, 1, 6)
    assert torch.equal(crop_frames(x, 4), x[..., :4])
    lengths = torch.tensor([1.0, 0.5])
    assert crop_frames(x, 7, None, lengths).tolist() == [
        [[0, 1, 2, 3, 4, 5, 5]],
        [[6, 7, 8, 8, 8, 8, 8]],
    ]
    starts = torch.tensor([4, 1])
    assert crop_frames(x, 3, starts, lengths).tolist() == [[[4, 5, 5]], [[7, 8, 8]]]
    assert crop_frames(x, 7).tolist()[1] == [[6, 7, 8, 9, 10, 11, 11]]


def test_masked_l1_is_the_mean_over_frames_of_all_items():
    estimate, target = random_tensor(2, 3, 8), random_tensor(2, 3, 8, seed=1)
    estimate[1, :, 5:] = 1e6
    found = masked_l1(estimate, target, torch.tensor([1.0, 5 / 8]))
    difference = (estimate - target).abs()
    expected = (difference[0].sum() + difference[1, :, :5].sum()) / (3 * 13)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def test_bad_options():
    with pytest.raises(UserError, match="sigma: 0"):
        build(options={"sigma": 0.0})
    with pytest.raises(UserError, match="condition_hop.*8 samples per frame.*every 16"):
        build(condition_hop=8)
    with pytest.raises(UserError, match="mel_head"):
        build("wav_vq", mel_head=False)
    with pytest.raises(UserError, match="condition_channels: .* 9, .* 7"):
        build(condition_channels=9)
    raw = MelConditioner(tiny_features(), layers=0)
    film = WaveGlow(tiny_features(), raw.channels, group_size=4, flows=1, layers=1, use_film=True)
    with pytest.raises(UserError, match="use_film"):
        WaveGlowVQ(raw, film)
