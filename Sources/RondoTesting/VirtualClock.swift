// The clocks that code in a simulation reads. They all end in clock_gettime, which CRondoTesting defines anew.

import CRondoTesting
import Rondo

enum VirtualClock {
    /// Gives the calling thread a virtual time.
    ///
    /// Crashes if Swift's clocks do not follow it: then sleeps would last a random time.
    static func start(at time: UInt64) {
        require(rondo_virtual_nanoseconds() == 0, "a simulation can't run inside another one")
        rondo_set_virtual_nanoseconds(time)
        let (continuous, suspending) = (ContinuousClock.now, SuspendingClock.now)
        rondo_set_virtual_nanoseconds(time + 12_345)
        let elapsed = (continuous.duration(to: .now), suspending.duration(to: .now))
        rondo_set_virtual_nanoseconds(time)
        require(
            elapsed.0 == .nanoseconds(12_345) && elapsed.1 == .nanoseconds(12_345),
            "virtual time does not reach Swift's clocks: after 12345 ns they show \(elapsed). The program must be "
                + "linked so that its own clock_gettime (of CRondoTesting) goes before the C library's")
    }

    /// The calling thread has the real time again.
    static func stop() { rondo_set_virtual_nanoseconds(0) }
}
