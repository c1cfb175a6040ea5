"""The app: front ends (Discord, web) and the studio behind them.  Never imports torch."""
