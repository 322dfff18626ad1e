"""Every flag of every script, read once and handed on as dataclasses; nothing behind them sees a parser."""
