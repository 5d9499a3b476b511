//! nginx, where it is installed: how fast a server that does nothing else gives a file.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Problem;

/// One that runs, until it is dropped.
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, it takes its workers along.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Starts one that serves a folder with `sendfile`, on two workers; none where there is no nginx.
    pub fn start(folder: &Path) -> Result<Option<Self>, Problem> {
        let address = SocketAddr::from(([127, 0, 0, 1], TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()));
        let folder = folder.display();
        let text = format!(
            "daemon off;\nuser root;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log stderr error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/nginx;\n\
             proxy_temp_path {folder}/nginx; fastcgi_temp_path {folder}/nginx; uwsgi_temp_path {folder}/nginx;\n\
             scgi_temp_path {folder}/nginx; server {{ listen {address}; root {folder}; }} }}\n"
        );
        let config = Path::new(&folder.to_string()).join("nginx.conf");
        std::fs::write(&config, text)?;
        let found = ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|program| {
            Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        });
        let Some(child) = found else { return Ok(None) };
        let nginx = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err("nginx does not start; try its configuration by hand".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(nginx))
    }
}
