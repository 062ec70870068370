/// Who looks at the program from inside its process, if it is linked with anybody (RondoInsight).
package enum ProgramObserver {
    /// Called once, when the program's loops are there and none has run.
    // SAFETY: written before `main`, by the observer's constructor.
    nonisolated(unsafe) package static var start: (@Sendable (_ loops: [EventLoop]) -> Void)?

    /// Whether a program that may be looked at is: `RONDO_INSPECT=off` in the environment keeps everybody out.
    static var isWanted: Bool { unsafe start != nil && environmentValue("RONDO_INSPECT") != "off" }
}
