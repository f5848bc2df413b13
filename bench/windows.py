"""What the windows of one cell say together."""

QUIET = 0.04  # of one core: windows in which others used more are noisy
ENOUGH = 5  # quiet windows; with fewer, all windows count and the cell is marked


def quiet(windows):
    return [window for window in windows if window["foreign_cpu"] < QUIET]


def summary(windows):
    """Quantiles over the quiet windows, or over all of them where too few are quiet."""
    enough = len(quiet(windows)) >= ENOUGH
    used = quiet(windows) if enough else windows
    steps = sum(window["steps"] for window in used)

    def per_step(name):
        return sum(window[name] * window["steps"] for window in used) / steps

    return {
        "n": steps,
        "windows": len(used),
        "windows_dropped": len(windows) - len(used),
        "quiet": enough,
        "foreign_cpu": max(0.0, round(quantile([w["foreign_cpu"] for w in windows], 0.5), 3)),
        "step_us_p10_p50_p90": [
            round(quantile([w["step_us"] for w in used], q), 2) for q in (0.1, 0.5, 0.9)
        ],
        "step_us_p50_of_all": round(quantile([w["step_us"] for w in windows], 0.5), 2),
        "faults_per_step": round(per_step("faults_per_step"), 2),
        "system_us_per_step": round(per_step("system_us_per_step"), 2),
    }


def quantile(values, q):
    ordered = sorted(values)
    below, part = divmod(q * (len(ordered) - 1), 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + part * (high - low)
