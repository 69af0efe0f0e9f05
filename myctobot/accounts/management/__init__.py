"""Commands about accounts of people."""
