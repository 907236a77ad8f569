/** From what the configuration says of a connection to what a client library takes. */
import type { ClusterConfiguration } from './configuration.ts'
import type { Environment } from './environment.ts'
import { replaceVariables, resolveSecret, Secret } from './secret.ts'

export interface Connection {
  /** URL or key=value words; may hold a password. */
  readonly connection: Secret
  readonly password: Secret | undefined
}

export function resolveConnection(cluster: ClusterConfiguration, env: Environment): Connection {
  return resolve(cluster, `clusters.${cluster.name}`, env)
}

/** Of the standbys that the receiver knows. */
export function resolveStandbys(cluster: ClusterConfiguration, env: Environment): Connection[] {
  return cluster.walStream.standbys.map((standby, index) =>
    resolve(standby, `clusters.${cluster.name}.wal.standbys[${index}]`, env),
  )
}

function resolve(
  { connection, password }: { connection: string; password: string | undefined },
  where: string,
  env: Environment,
): Connection {
  return {
    connection: new Secret(replaceVariables(connection, `${where}.connection`, env)),
    password:
      password === undefined ? undefined : resolveSecret(password, `${where}.password`, env),
  }
}
