"""Other systems, measured beside ours.

A file with the name of a broker's folder is that broker's client library alone, doing what `benchmarks.brokers` lets ours do,
in the best way the library offers and with the same durability:

``publish(url, topic, frames)``  messages per second, all of them acknowledged; the first is sent before the clock starts
``read(url, topic, count)``      messages per second, from connecting to the last one acknowledged

A contestant meets a topic that is there, and kept for `benchmarks.contestants.terms.GROUP`.
"""
