"""A weighted sum of what mask models say of one mixture, transformed back once."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs
from danna_sep.signal.stft import istft
from danna_sep.signal.wiener import wiener

Shares = Float[Tensor, " source"]


class StemSum:
    """Stems of a mixture as a sum of spectra: masks add up as masks, what the Wiener filter gives as spectra.

    Args:
        spec: The mixture's spectrum, in the working precision.
        size: Its magnitudes.
    """

    def __init__(self, spec: Spec, size: Float[Tensor, "*batch channel bin frame"]) -> None:
        self.spec, self.size = spec, size
        self._masks: StemMagnitudes | None = None
        self._filtered: StemSpecs | None = None

    def add(
        self, masks: StemMagnitudes, n_iterations: int, shares: Shares | None = None, *, in_place: bool = False
    ) -> None:
        """What a model says.

        Args:
            masks: One per source.
            n_iterations: Of the Wiener filter; none: the masks are all that is done to the mixture.
            shares: What each source counts; None: 1.
            in_place: Whether the masks may be used up.
        """
        if n_iterations:
            size = self.size.unsqueeze(-4)
            magnitudes = masks.mul_(size) if in_place else masks * size
            self._filtered = wiener(magnitudes, self.spec, n_iterations, shares=shares, onto=self._filtered)
            return
        if shares is not None:
            factors = _as_factors(shares, masks)
            masks = masks.mul_(factors) if in_place else masks * factors
        self._masks = masks if self._masks is None else self._masks + masks

    @property
    def has_masks(self) -> bool:
        """Whether masks were added that no filter takes."""
        return self._masks is not None

    def add_some(self, masks: StemMagnitudes, first_frame: int, shares: Shares) -> None:
        """As `add`, masks of some of the frames, where it `has_masks`; in place."""
        if self._masks is None:
            raise ValueError("only to masks of all frames can those of some be added")
        place = self._masks[..., first_frame : first_frame + masks.shape[-1]]
        place.addcmul_(masks, _as_factors(shares, masks))

    def stem(
        self, source: int, channel: int, n_samples: int, n_fft: int, hop_length: int
    ) -> Float[Tensor, "*batch time"]:
        """One channel of a source, by its number, as a signal of so many samples."""
        total: Tensor | None = None
        if self._masks is not None:
            total = self._masks[..., source, channel, :, :] * self.spec[..., channel, :, :]
        if self._filtered is not None:
            filtered = self._filtered[..., source, channel, :, :]
            total = filtered if total is None else total + filtered
        if total is None:
            raise ValueError("nothing was added")
        return istft(total, n_samples, n_fft, hop_length)


def _as_factors(shares: Shares, masks: StemMagnitudes) -> Float[Tensor, "source 1 1 1"]:
    return shares.to(masks)[:, None, None, None]
