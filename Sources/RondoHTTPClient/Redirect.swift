import HTTPTypes

/// What becomes of a request that was answered by a redirect: a pure decision.
enum Redirect {
    /// The next request's method, and whether it has the body.
    struct Step: Equatable {
        var method: HTTPRequest.Method
        var keepsBody: Bool
    }

    /// The step that a status asks for; nil if it is no redirect.
    static func step(status: Int, method: HTTPRequest.Method) -> Step? {
        switch status {
        case 301, 302:
            // What every client does, and RFC 9110 allows for historical reasons.
            method == .post ? Step(method: .get, keepsBody: false) : Step(method: method, keepsBody: true)
        case 303: Step(method: method == .head ? .head : .get, keepsBody: false)
        case 307, 308: Step(method: method, keepsBody: true)
        default: nil
        }
    }

    /// Fields that are meant for the one host that they were written for.
    static let forOneHost: Set<HTTPField.Name> = [.authorization, .cookie, .proxyAuthorization]

    /// Fields that describe a body.
    static let ofBody: Set<HTTPField.Name> = [
        .contentType, .contentLength, .contentEncoding, .contentLanguage, .contentLocation, .transferEncoding,
    ]

    /// The fields of the next request.
    static func fields(_ fields: HTTPFields, keepsBody: Bool, sameOrigin: Bool) -> HTTPFields {
        HTTPFields(
            fields.filter { field in
                if !keepsBody, ofBody.contains(field.name) { return false }
                return sameOrigin || !forOneHost.contains(field.name)
            })
    }
}
