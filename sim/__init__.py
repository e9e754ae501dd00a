"""Synthetic training: when do the two axes of channel information separate?"""
