package durable

// nonBlocking: opening never waits on Windows.
const nonBlocking = 0
