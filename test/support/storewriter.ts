/**
 * Writes to a store until it is killed, and says on stdout what has been acknowledged: `ack NAME VALUE REVISION`. Each
 * writer counts up an object of its own.
 */
import { systemClock, systemRandom } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { openStore } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'

const [dataDir = '', writers = '8', revisionBlock = '200'] = process.argv.slice(2)

async function write(store: Store, name: string): Promise<never> {
  for (;;) {
    const { spec, metadata } = await store.transact((tx) => {
      const old = tx.get('Model', '', name)
      const uid = old?.metadata.uid ?? tx.newUid()
      const made = { name, uid, resourceVersion: '', generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' }
      const revision = String(Number(old?.spec.revision ?? 0) + 1)
      return tx.put({ apiVersion: 'mctl.dev/v1alpha1', kind: 'Model' as const, metadata: made, spec: { revision } })
    })
    process.stdout.write(`ack ${name} ${String(spec.revision)} ${metadata.resourceVersion}\n`)
  }
}

const store = await openStore({
  dataDir,
  clock: systemClock,
  random: systemRandom,
  log: silentLogger,
  revisionBlock: Number(revisionBlock),
})
await Promise.all(Array.from({ length: Number(writers) }, (_, i) => write(store, `w${i}`)))
