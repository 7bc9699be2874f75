"""What every layer stands on: the base layer, slot objects, checks at the door, norms, special ids. Knows no masks."""
