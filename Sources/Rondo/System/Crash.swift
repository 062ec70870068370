// The one way in which Rondo crashes: a broken invariant of our own, or a use of the interface that can't go on.
// `fatalError` keeps its text in release builds, where `precondition` loses it.

/// Ends the process with `message`. Call it for what must never happen, never for what a peer or the system can cause.
package func crash(_ message: String, file: StaticString = #fileID, line: UInt = #line) -> Never {
    fatalError("Rondo: \(message)", file: file, line: line)
}

/// Ends the process with `message` unless `condition` holds.
@inline(__always)
package func require(
    _ condition: Bool, _ message: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if !condition { crash(message(), file: file, line: line) }
}
