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
  const where = `clusters.${cluster.name}`
  const { connection, password } = cluster
  return {
    connection: new Secret(replaceVariables(connection, `${where}.connection`, env)),
    password:
      password === undefined ? undefined : resolveSecret(password, `${where}.password`, env),
  }
}
