"""What a demonstration-conditioned teacher does to the student: optima, slopes, sources of bias."""
