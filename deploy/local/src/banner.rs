//! What a person reads when the stack is ready.

use std::{fmt, net::SocketAddr};

use crate::data::Data;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    pub(crate) data: &'a Data,
    pub(crate) listen: SocketAddr,
    pub(crate) control_plane_admins: &'a [SocketAddr],
    pub(crate) daemon_admins: &'a [SocketAddr],
    pub(crate) database_url: &'a str,
    pub(crate) amqp_url: &'a str,
    pub(crate) management_url: Option<&'a str>,
    pub(crate) admin_token: &'a str,
    pub(crate) link: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen = self.listen;
        writeln!(f, "\nJalur is ready.\n")?;
        let mut line = |what: &str, place: &str| writeln!(f, "  {what:<12} {place}");
        line("REST", &format!("http://{listen}/api"))?;
        line("docs", &format!("http://{listen}/docs"))?;
        line("gRPC", &listen.to_string())?;
        for admin in self.control_plane_admins.iter().chain(self.daemon_admins) {
            line("metrics", &format!("http://{admin}/metrics"))?;
        }
        line("RabbitMQ", self.amqp_url)?;
        if let Some(url) = self.management_url {
            line("  its pages", url)?;
        }
        line("PostgreSQL", &format!("psql {}", self.database_url))?;
        line("logs", &self.data.path("log").display().to_string())?;
        line("environment", &format!(". {}", self.data.path("env").display()))?;
        writeln!(
            f,
            "\nCreate a tenant:\n\n  \
             curl -sS -X POST 'http://{listen}/api/tenants' -H 'Authorization: Bearer {}' \
             -H 'Content-Type: application/json' -d '{{\"name\":\"first\"}}'\n\n\
             Ctrl-C stops everything. The console, by a link that signs in once (`cargo run -- link` makes another):\n\n  {}\n",
            self.admin_token, self.link
        )
    }
}
