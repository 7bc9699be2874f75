"""The foundation of all layers: base layer, slot objects, argument checks, norms, special ids. Imports no masks."""
