"""foveal turns images into aligned vision-language models, and proves that it did."""
