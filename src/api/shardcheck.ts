/** Rules between the fields of ShardGroups and Shards. mctl writes them: a cause here is a bug that must not be stored. */
import type { Cause } from '../lib/errors.ts'
import { invalid, required } from './causes.ts'
import type { Rule } from './check.ts'
import { checkMemory, checkStage, checkUnique } from './check.ts'
import type { Shard } from './shard.ts'
import type { Member, ShardGroup } from './shardgroup.ts'

const bindingFields = ['members', 'strategy', 'engine', 'transport', 'planHash'] as const

export const shardGroupRules: readonly Rule<ShardGroup>[] = [
  { reads: ['spec.members'], check: ({ spec }) => checkMembers('spec.members', spec.members) },
  {
    reads: bindingFields.map((name) => `spec.${name}`),
    check: ({ spec }) =>
      spec.members.length === 0
        ? []
        : bindingFields.flatMap((name) =>
            spec[name] === undefined ? [required(`spec.${name}`, 'is part of a binding')] : [],
          ),
  },
  { reads: ['spec.next'], check: ({ spec }) => checkMembers('spec.next.members', spec.next?.members ?? []) },
  {
    reads: ['spec.next', 'spec.epoch'],
    check: ({ spec }) =>
      spec.next === null || spec.next.epoch > spec.epoch
        ? []
        : [invalid('spec.next.epoch', spec.next.epoch, `must be greater than spec.epoch, ${spec.epoch}`)],
  },
]

function checkMembers(field: string, members: readonly Member[]): readonly Cause[] {
  return [
    ...checkUnique(field, members, (member) => `rank ${member.rank}`),
    ...members.flatMap((member, index) => [
      ...(member.rank < members.length
        ? []
        : [
            invalid(
              `${field}[${index}].rank`,
              member.rank,
              `must be less than the number of members, ${members.length}`,
            ),
          ]),
      ...checkStage(`${field}[${index}].stage`, member.stage),
      ...checkMemory(`${field}[${index}].memoryBytes`, member.memoryBytes, member.parts),
    ]),
  ]
}

export const shardRules: readonly Rule<Shard>[] = [
  {
    reads: ['spec.rank', 'spec.worldSize'],
    check: ({ spec }) =>
      spec.rank < spec.worldSize
        ? []
        : [invalid('spec.rank', spec.rank, `must be less than worldSize, ${spec.worldSize}`)],
  },
  { reads: ['spec.stage'], check: ({ spec }) => checkStage('spec.stage', spec.stage) },
  {
    reads: ['spec.memoryBytes', 'spec.parts'],
    check: ({ spec }) => checkMemory('spec.memoryBytes', spec.memoryBytes, spec.parts),
  },
  {
    reads: ['spec.rendezvous', 'spec.worldSize'],
    check: ({ spec }) =>
      spec.rendezvous === null || spec.rendezvous.hosts.length === spec.worldSize
        ? []
        : [invalid('spec.rendezvous.hosts', spec.rendezvous.hosts, `must have one entry per rank, ${spec.worldSize}`)],
  },
]
