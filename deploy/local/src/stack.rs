//! A stack that runs: what was started, how it is stopped, and where everything is.

use std::net::SocketAddr;

use futures::future;

use crate::{
    banner::Banner, data::Data, links, processes::Process, programs::STOP_GRACE, services::Services,
};

/// Everything that was started.
pub(crate) struct Stack {
    pub(crate) services: Services,
    pub(crate) control_planes: Vec<Program>,
    pub(crate) daemons: Vec<Program>,
    pub(crate) listen: SocketAddr,
    pub(crate) admin_token: String,
}

pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) admin: SocketAddr,
}

impl Stack {
    /// Daemons first, while there is a control plane to take leave of; the services last.
    pub(crate) async fn stop(&self) {
        for programs in [&self.daemons, &self.control_planes] {
            future::join_all(programs.iter().map(|program| program.process.stop(STOP_GRACE))).await;
        }
        self.services.stop().await;
    }

    pub(crate) fn processes(&self) -> Vec<Process> {
        let programs = self.control_planes.iter().chain(&self.daemons);
        let mut processes: Vec<_> = programs.map(|program| program.process.clone()).collect();
        if let Some(native) = self.services.native() {
            processes.extend(native.postgres().process());
            processes.extend(native.rabbitmq().process());
        }
        processes
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let urls = |programs: &[Program]| {
            let urls: Vec<_> = programs
                .iter()
                .map(|program| format!("http://{}", program.admin))
                .collect();
            urls.join(",")
        };
        let pids: Vec<_> = self
            .processes()
            .iter()
            .map(|process| format!("{}={}", process.name(), process.pid()))
            .collect();
        vec![
            ("JALUR_URL", self.url()),
            ("JALUR_GRPC", self.listen.to_string()),
            ("JALUR_ADMIN_TOKEN", self.admin_token.clone()),
            ("JALUR_DATABASE_URL", self.services.database_url().to_owned()),
            ("JALUR_AMQP_URL", self.services.amqp_url().to_owned()),
            (
                "JALUR_RABBITMQ_MANAGEMENT_URL",
                self.services.management_url().unwrap_or_default().to_owned(),
            ),
            ("JALUR_CONTROL_PLANE_ADMIN", urls(&self.control_planes)),
            ("JALUR_DAEMON_ADMINS", urls(&self.daemons)),
            ("JALUR_PIDS", pids.join(",")),
        ]
    }

    pub(crate) fn banner(&self, data: &Data) -> anyhow::Result<String> {
        let admins =
            |programs: &[Program]| -> Vec<_> { programs.iter().map(|program| program.admin).collect() };
        let banner = Banner {
            data,
            listen: self.listen,
            control_plane_admins: &admins(&self.control_planes),
            daemon_admins: &admins(&self.daemons),
            database_url: self.services.database_url(),
            amqp_url: self.services.amqp_url(),
            management_url: self.services.management_url(),
            admin_token: &self.admin_token,
            link: &links::link(data, &self.url())?,
        };
        Ok(banner.to_string())
    }
}
