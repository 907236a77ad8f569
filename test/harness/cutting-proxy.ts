/** A proxy before a server's Unix socket that cuts connections, or swallows what it should pass. */
import { createServer, connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { temporaryDirectory } from './temporary-directory.ts'

export interface CuttingProxy {
  readonly url: string
  /** The next connections are destroyed after so many bytes from the server; undefined: never. */
  cutAfter(bytes: number | undefined): void
  /** Passes nothing on, in either direction, and keeps connections open. */
  swallow(isOn: boolean): void
  close(): Promise<void>
}

export async function startCuttingProxy(target: string): Promise<CuttingProxy> {
  const directory = temporaryDirectory()
  const port = 5498
  let limit: number | undefined
  let isSwallowing = false
  let passed = 0
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(target)
    for (const socket of [client, upstream]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', (chunk) => {
      if (!isSwallowing) upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      if (isSwallowing) return
      passed += chunk.length
      if (limit === undefined || passed < limit) {
        client.write(chunk)
        return
      }
      const rest = chunk.subarray(0, Math.max(0, chunk.length - (passed - limit)))
      limit = undefined
      client.end(rest, () => client.destroy())
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(join(directory, `.s.PGSQL.${port}`), resolve)
  })
  return {
    url: `postgresql:///postgres?host=${encodeURIComponent(directory)}&port=${port}&user=postgres`,
    cutAfter(bytes) {
      limit = bytes
      passed = 0
    },
    swallow(isOn) {
      isSwallowing = isOn
    },
    async close() {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
