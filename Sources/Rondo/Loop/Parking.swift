// Waiting for something that another job does. Between the caller's look ("is it still busy?") and its wait other jobs
// may run: where the caller is an actor's, each call of an async function may be a hop (docs/decisions/0029). So the
// look that counts is the one at the place where nothing can come in between any more.

/// Waits until the continuation that `keep` gets is resumed; not at all if `isOver` is true when it is there.
@inline(__always)
func park(unless isOver: @autoclosure () -> Bool, _ keep: (UnsafeContinuation<Void, Never>) -> Void) async {
    // SAFETY: resumed here, or by whoever `keep` has left it to, which takes it out of its place before.
    await unsafe withUnsafeContinuation { continuation in
        if isOver() { unsafe continuation.resume() } else { unsafe keep(continuation) }
    }
}
