/**
 * The server's disk in the simulator: a real folder (in memory where the system has such a place) with the real SQLite
 * files. A crash leaves what the files held at that moment, or less: a torn or lost tail of the WAL, or an older backup.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { restore } from '../../src/store/backup.ts'
import { STORE_FILE } from '../../src/store/database.ts'
import type { SeededRandom } from './virtualclock.ts'

/**
 * What a crash leaves. `Whole`: what was written. `Torn`: the same, and junk where the next write was under way. The
 * others lose what was acknowledged, as no sound disk does: `Truncated` and `Flipped` WALs, a restored `Backup`.
 */
export type Remains = 'Whole' | 'Torn' | 'Truncated' | 'Flipped' | 'Backup'

export const losesWrites = (remains: Remains): boolean => remains !== 'Whole' && remains !== 'Torn'

const memoryFolder = '/dev/shm'

export class SimDisk {
  readonly #root = mkdtempSync(join(existsSync(memoryFolder) ? memoryFolder : tmpdir(), 'mctl-sim-'))
  readonly #random: SeededRandom
  readonly #lies: boolean
  #count = 0
  #folder: string
  #hasBackup = false

  /** `lies`: no crash leaves anything of the WAL, though it was flushed. */
  constructor(random: SeededRandom, lies = false) {
    this.#random = random
    this.#lies = lies
    this.#folder = this.#newFolder()
    mkdirSync(this.#backupFolder)
  }

  get #backupFolder(): string {
    return join(this.#root, 'backup')
  }

  /** The data directory of the next server. */
  get folder(): string {
    return this.#folder
  }

  get backupFile(): string {
    return join(this.#backupFolder, STORE_FILE)
  }

  backupMade(): void {
    this.#hasBackup = true
  }

  /** The process that had the folder is gone, at this very moment: what it left is in a folder of its own. */
  crash(remains: Remains, nowMs: number): void {
    const [from, to] = [this.#folder, this.#newFolder()]
    this.#folder = to
    if (remains === 'Backup' && this.#hasBackup) return restore(this.#backupFolder, to, nowMs)
    for (const file of [STORE_FILE, `${STORE_FILE}-wal`])
      if (existsSync(join(from, file))) copyFileSync(join(from, file), join(to, file))
    const wal = join(to, `${STORE_FILE}-wal`)
    if (existsSync(wal) && statSync(wal).size > 0) writeFileSync(wal, this.#left(readFileSync(wal), remains))
  }

  remove(): void {
    rmSync(this.#root, { recursive: true, force: true })
  }

  #left(wal: Buffer, remains: Remains): Buffer {
    if (this.#lies) return Buffer.alloc(0)
    const at = this.#random.below(wal.length)
    switch (remains) {
      case 'Whole':
      case 'Backup':
        return wal
      case 'Torn':
        return Buffer.concat([wal, Buffer.from(wal.subarray(at, at + 1 + this.#random.below(9_000)))])
      case 'Truncated':
        return wal.subarray(0, at)
      case 'Flipped': {
        const flipped = Buffer.from(wal)
        flipped[at] = (flipped[at] ?? 0) ^ (1 + this.#random.below(255))
        return flipped
      }
    }
  }

  #newFolder(): string {
    const folder = join(this.#root, String(this.#count++))
    mkdirSync(folder, { mode: 0o700 })
    return folder
  }
}
