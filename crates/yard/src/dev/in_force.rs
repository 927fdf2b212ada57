//! Which catalog is in force in a folder that has been used before: the one that `yard dev` makes up at every start, or
//! one that somebody has applied since.

use yard_domain::catalog::CatalogSource;
use yard_ports::Store;

use super::folder::Folder;
use crate::config::{ClusterConfig, Config, DriverConfig, read_catalog};

/// What to tell of the catalog in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// Its teams.
    pub teams: Vec<String>,
    /// Its clusters, each with its driver.
    pub clusters: Vec<String>,
    /// Which one it is, if it was applied.
    pub applied: Option<String>,
    /// Clusters that the applied catalog has elsewhere than where they are now, each in a sentence.
    pub moved: Vec<String>,
}

impl InForce {
    /// Reads it. An applied catalog stands; what the start has made up is passed over then.
    pub async fn read(store: &dyn Store, folder: &Folder, config: &Config) -> Result<Self, String> {
        let newest = store.catalog_versions(None, 1).await.map_err(|e| e.to_string())?.into_iter().next();
        let teams = config.teams().iter().map(|team| team.id.to_string()).collect();
        let Some(version) = newest.filter(|version| version.source == CatalogSource::Applied) else {
            return Ok(Self { teams, clusters: names(config.clusters()), ..Self::default() });
        };
        let declared =
            read_catalog("the catalog", &version.text, &folder.path("")).map_err(|e| e.to_string())?;
        Ok(Self {
            teams: declared.catalog.teams.iter().map(|team| team.id.to_string()).collect(),
            clusters: names(&declared.clusters),
            applied: Some(format!(
                "version {} applied by {} stands, not what `yard dev` makes up; `yard export` prints it",
                version.number, version.by
            )),
            moved: declared.clusters.iter().filter_map(|c| moved(c, config.clusters())).collect(),
        })
    }
}

fn names(clusters: &[ClusterConfig]) -> Vec<String> {
    clusters.iter().map(|c| format!("{} ({})", c.cluster.id, c.cluster.driver)).collect()
}

/// Of a cluster that this start has prepared at another place than the catalog says.
fn moved(applied: &ClusterConfig, prepared: &[ClusterConfig]) -> Option<String> {
    let now = prepared.iter().find(|c| c.cluster.id == applied.cluster.id)?;
    let (before, now) = (place(&applied.driver), place(&now.driver));
    (before != now).then(|| {
        format!(
            "{} is {now} now, and {before} in the catalog: until that is changed with `yard apply`, its jobs go there",
            applied.cluster.id
        )
    })
}

fn place(driver: &DriverConfig) -> String {
    match driver {
        DriverConfig::Ray(ray) => format!("Ray at {}", ray.address),
        DriverConfig::KubeRay(kuberay) => format!("KubeRay in {}", kuberay.place()),
        DriverConfig::Process(process) => format!("processes in {}", process.dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_cluster_that_is_elsewhere_now_is_told() {
        let read = |driver: &str| {
            let text = format!("[[team]]\nid = \"ads\"\n[[cluster]]\nid = \"east\"\n{driver}\n");
            read_catalog("", &text, Path::new("/dev-folder")).unwrap().clusters
        };
        let processes = read("driver = \"process\"\ndir = \"processes/east\"\ncapacity = { cpu = 3 }");
        let (ray, other) = (
            read("driver = \"ray\"\naddress = \"http://a:1\""),
            read("driver = \"ray\"\naddress = \"http://a:2\""),
        );
        let told = |applied: &[ClusterConfig], prepared: &[ClusterConfig]| moved(&applied[0], prepared);
        assert_eq!(told(&ray, &ray), None);
        assert_eq!(told(&ray, &[]), None, "not one of ours");
        assert!(
            told(&ray, &other)
                .unwrap()
                .starts_with("east is Ray at http://a:2 now, and Ray at http://a:1 in")
        );
        assert!(told(&ray, &processes).unwrap().contains("processes in /dev-folder/processes/east now"));
    }
}
