"""Tests, in folders by what a user relies on; support/ has what they share, programs/ what runs for long."""
