"""How far an estimate is from the truth."""

from torch import Tensor

from covlab.simulator import Batch

SNR_BINS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)


def by_snr(batch: Batch, scores: Tensor) -> list[dict[str, float]]:
    """Per-scene ``scores`` [B] by SNR bin: low and high edge in dB, scenes, mean and median; empty bins are left out."""
    rows = []
    for low, high in zip(SNR_BINS_DB, SNR_BINS_DB[1:], strict=False):
        inside = scores[(batch.snr_db >= low) & ((batch.snr_db < high) | (high == SNR_BINS_DB[-1]) & (batch.snr_db == high))]
        if len(inside):
            rows.append({"low_db": low, "high_db": high, "scenes": len(inside), "mean": inside.mean().item(), "median": inside.median().item()})
    return rows
