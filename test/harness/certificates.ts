/** Certificates for tests, made by openssl: an authority, and a server's for one address. */
import { chmodSync, chownSync } from 'node:fs'
import { join } from 'node:path'
import { runChecked } from './run-program.ts'
import type { Owner } from './server-user.ts'

export interface Certificates {
  readonly authority: string
  readonly certificate: string
  readonly key: string
}

/** `subject`: `IP:127.0.0.1` or `DNS:name`, what the server's certificate is for. */
export async function makeCertificates(
  directory: string,
  subject: string,
  owner?: Owner,
): Promise<Certificates> {
  const path = (name: string): string => join(directory, name)
  const openssl = async (...args: string[]): Promise<void> => {
    await runChecked('openssl', args, { cwd: directory })
  }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const authority = ['-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test authority']
  await openssl('req', '-x509', ...newKey, ...authority, '-days', '30')
  const request = ['-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=server']
  await openssl('req', ...newKey, ...request, '-addext', `subjectAltName=${subject}`)
  const sign = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-copy_extensions', 'copy']
  await openssl('x509', '-req', '-in', 'server.csr', '-out', 'server.crt', '-days', '30', ...sign)
  chmodSync(path('server.key'), 0o600)
  for (const name of ['server.key', 'server.crt', 'ca.crt']) {
    if (owner !== undefined) chownSync(path(name), owner.uid, owner.gid)
  }
  return { authority: path('ca.crt'), certificate: path('server.crt'), key: path('server.key') }
}
