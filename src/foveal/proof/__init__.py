"""The proof: pictures to data to training to measured change, for sentences of papers that can be true or false."""
