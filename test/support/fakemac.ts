/**
 * A Mac that is a folder: `ifconfig`, `networksetup`, `system_profiler` and `sysctl` are programs there that print what
 * was recorded on real Macs (test/fixtures/macos) and keep what is changed. Cables are put into what was recorded.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { ThunderboltDoors } from '../../agent/thunderbolt/configure.ts'
import { changeDoor } from '../../agent/thunderbolt/door.ts'
import { linkRecordFile } from '../../agent/thunderbolt/record.ts'
import { textDoor } from '../../agent/observe/doors.ts'

export const recordedText = (name: string): string =>
  readFileSync(new URL(`../fixtures/macos/${name}`, import.meta.url), 'utf8')

/** Thunderbolt 1, 2, 3 are en1, en2, en3, all of them in bridge0. */
export const MACBOOK = {
  setup: 'networksetup-listallhardwareports/1-mbp16-2021-macos14.4.txt',
  ifconfig: 'ifconfig-all/1-mbp16-2021-macos14.4.txt',
}
const PROFILE = 'system_profiler-SPThunderboltDataType/1-macmini-m4pro-macos27-mac-peer.json'

interface Bus {
  domain_uuid_key: string
  _items?: { domain_uuid_key?: string }[]
  receptacle_1_tag: Record<string, string>
}

/** By receptacle: UUID of the own port, and of the one that its cable leads to. */
export type Cabling = Readonly<Record<number, { readonly own: string; readonly peer?: string }>>

/** As a Mac mini M4 Pro said it, with other UUIDs and cables. `speed`: 40 Gb/s is Thunderbolt 4, what a Mac mini M4 has. */
export function profileOf(cabling: Cabling, speed = '40 Gb/s'): string {
  const recorded = (JSON.parse(recordedText(PROFILE)) as { SPThunderboltDataType: Bus[] }).SPThunderboltDataType
  const peered = recorded.find(({ _items }) => _items?.[0]?.domain_uuid_key !== undefined)
  const empty = recorded.find(({ _items }) => _items === undefined)
  const buses = Object.entries(cabling).map(([receptacle, { own, peer }]): Bus => {
    const bus = structuredClone(peer === undefined ? empty : peered) as Bus
    bus.domain_uuid_key = own
    bus.receptacle_1_tag['receptacle_id_key'] = receptacle
    if (peer !== undefined && bus._items?.[0] !== undefined) {
      bus._items[0].domain_uuid_key = peer
      bus.receptacle_1_tag['current_speed_key'] = speed
    }
    return bus
  })
  return JSON.stringify({ SPThunderboltDataType: buses })
}

export class FakeMac {
  readonly dir: string
  readonly doors: ThunderboltDoors
  readonly searchPath: string

  constructor(cabling: Cabling) {
    this.dir = mkdtempSync(join(tmpdir(), 'mctl-mac-'))
    const bin = join(this.dir, 'bin')
    mkdirSync(bin)
    // Looking is much more frequent than changing, and quick.
    const own = (name: string, script: string) =>
      writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    own('networksetup', `cat ${this.dir}/networksetup.txt`)
    own('system_profiler', `cat ${this.dir}/profile.json`)
    own('sysctl', `[ "$1" = kern.bootsessionuuid ] && echo "$1: $(cat ${this.dir}/boot.txt)"`)
    const changes = join(bin, 'ifconfig-changes.mjs')
    copyFileSync(new URL('fakemac-commands.mjs', import.meta.url), changes)
    own('ifconfig', `[ "$1" = -a ] && exec cat ${this.dir}/ifconfig.txt\nexec ${process.execPath} ${changes} "$@"`)
    this.#write('networksetup.txt', recordedText(MACBOOK.setup))
    this.#write('ifconfig.txt', recordedText(MACBOOK.ifconfig))
    this.#write('boot.txt', 'boot-1')
    this.plug(cabling)
    this.searchPath = [bin, '/usr/bin', '/bin'].join(delimiter)
    this.doors = {
      runText: textDoor(this.searchPath),
      change: changeDoor(this.searchPath),
      record: linkRecordFile(this.dir),
    }
  }

  plug(cabling: Cabling): void {
    this.#write('profile.json', profileOf(cabling))
  }

  ifconfig(): string {
    return readFileSync(join(this.dir, 'ifconfig.txt'), 'utf8')
  }
  /** The text of one interface. */
  interface(name: string): string {
    return (
      this.ifconfig()
        .split(/^(?=\S+: flags=)/m)
        .find((block) => block.startsWith(`${name}: `)) ?? ''
    )
  }
  edit(change: (ifconfig: string) => string): void {
    this.#write('ifconfig.txt', change(this.ifconfig()))
  }

  /** The settings that were of the running system are gone, and ports may have other names. */
  reboot(cabling: Cabling, rename: (setup: string) => string = (setup) => setup): void {
    this.#write('ifconfig.txt', recordedText(MACBOOK.ifconfig))
    this.#write('networksetup.txt', rename(recordedText(MACBOOK.setup)))
    this.#write('boot.txt', `${readFileSync(join(this.dir, 'boot.txt'), 'utf8')}+`)
    this.plug(cabling)
  }

  /** Commands whose words have this in them fail; '' ends it. */
  break(words: string): void {
    rmSync(join(this.dir, 'broken.txt'), { force: true })
    if (words !== '') this.#write('broken.txt', words)
  }

  /** Every command that was to change something, since the last time. */
  changes(): readonly string[] {
    const file = join(this.dir, 'changes.log')
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []
    rmSync(file, { force: true })
    return lines
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true })
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.dir, name), text)
  }
}
