"""Where the time goes: profile, hotspots, timeline, bench, scaling, plots, report."""
