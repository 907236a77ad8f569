/** A backup as a process of its own: node backup-process.ts REPOSITORY CONNECTION. */
import { takeBackup } from '../../src/backup/take-backup.ts'
import { Failure } from '../../src/base/failure.ts'
import { SILENT } from '../../src/base/progress.ts'
import { openStorage } from '../../src/storage/open-storage.ts'

const [url = '', connection = ''] = process.argv.slice(2)
const storage = await openStorage({ url })
const options = {
  storage,
  cluster: 'main',
  connection,
  workers: 2,
  archiveCheck: false,
  archiveCommand: '',
  tidemarkVersion: 'test',
}
const progress = { ...SILENT, phase: (name: string) => void console.log(name) }
try {
  const { record, notes } = await takeBackup(options, progress, new AbortController().signal)
  console.log(JSON.stringify({ id: record.id, notes }))
} catch (error) {
  if (!(error instanceof Failure)) throw error
  const { code, message, because, fix, details } = error
  console.log(JSON.stringify({ code, message, because, fix, details }))
  process.exitCode = 1
}
