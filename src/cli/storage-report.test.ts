import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  countBytesRead,
  countCall,
  countRequest,
  makeStorageMeter,
  readMeter,
} from '../storage/storage-meter.ts'
import { describeStorage, storageJson } from './storage-report.ts'

test('an object store is told by its requests, a directory by its calls', () => {
  const [store, directory, unused] = [makeStorageMeter(), makeStorageMeter(), makeStorageMeter()]
  countCall(store, 'read')
  countRequest(store, 'GetObjectCommand')
  countRequest(store, 'GetObjectCommand')
  countRequest(store, 'PutObjectAclCommand')
  countBytesRead(store, 2048)
  countCall(directory, 'list')
  const meters = new Map([
    ['s3://bucket', readMeter(store)],
    ['file:///a', readMeter(directory)],
    ['file:///b', readMeter(unused)],
  ])
  assert.deepEqual(describeStorage(meters), [
    's3://bucket: 3 requests (GetObject 2, other 1); 2.00 KiB read, 0 B written',
    'file:///a: 1 call (list 1); 0 B read, 0 B written',
  ])
  assert.deepEqual(storageJson(meters)[0], {
    url: 's3://bucket',
    calls: { read: 1 },
    requests: { GetObject: 2, other: 1 },
    bytesRead: 2048,
    bytesWritten: 0,
  })
})
