use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use std::convert::Infallible;

async fn hello(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::builder()
        .header("content-type", "text/plain; charset=utf-8")
        .body(Body::from("Hello, world!\n"))
        .unwrap())
}

fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let service = make_service_fn(|_| async { Ok::<_, Infallible>(service_fn(hello)) });
        let server = Server::bind(&([127, 0, 0, 1], port).into()).tcp_nodelay(true).serve(service);
        server.await.unwrap();
    });
}
