"""FIGURES: numbers of a result → Plotly figures. Plain dictionaries until one is asked for; computes nothing."""
