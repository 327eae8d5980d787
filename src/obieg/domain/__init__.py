"""What the words mean, whichever protocol said them."""
