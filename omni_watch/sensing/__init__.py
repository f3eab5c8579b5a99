"""The house -> units: cameras, microphones, streams and recordings, brought onto one timeline per feed.

`opening.open_feed` is the door for live feeds, `recording.Recording` the one for replay, `probing.probe` looks whether
a device works. Everything here gives `Unit`s and raises `FeedError`; nothing here knows of models, tasks or stores.
"""
