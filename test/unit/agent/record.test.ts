import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { fileRecord } from '../../../agent/record.ts'

const aFolder = (): string => {
  const dir = mkdtempSync(join(tmpdir(), 'mctl-record-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  return dir
}

test('a fresh data folder names no cluster; what is written is read again by the next agent', async () => {
  const dir = join(aFolder(), 'new')
  expect(await fileRecord(dir).read()).toEqual({ clusterUid: '', agentId: '' })
  await fileRecord(dir).write({ clusterUid: 'c1', agentId: 'a1' })
  expect(await fileRecord(dir).read()).toEqual({ clusterUid: 'c1', agentId: 'a1' })
})

test.each(['', '{', '{}', '{"clusterUid": 7, "agentId": "a"}', 'null'])(
  'a damaged record %j is an error that says what to do, never a fresh start',
  async (text) => {
    const dir = aFolder()
    writeFileSync(join(dir, 'agent.json'), text)
    await expect(fileRecord(dir).read()).rejects.toThrow(/agent\.json: it names no cluster; restore it/)
  },
)
