"""PICTURES: numbers of a result → figures, and figures → SVG. Alone in knowing matplotlib; computes nothing."""
