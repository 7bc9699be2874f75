"""The ids that mean the same in every vocabulary of the library; tokens of a text begin behind them."""

PADDING_ID, START_ID, END_ID, UNKNOWN_ID = range(4)
NUM_SPECIAL_IDS = 4
