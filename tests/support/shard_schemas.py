"""Checks that the tables of a migration can be distributed by user_id over a Citus cluster."""

from collections.abc import Iterator
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import AlterTableType, ConstrType
from support.shards import functions

_SERIALS = {"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"}


def schema_faults(migration: str) -> list[str]:
    """List the parts of a migration that cannot be distributed by `user_id`."""
    return [fault for raw in parse_sql(migration) for fault in _statement_of_schema_faults(raw.stmt)]


def tables_made(migration: str) -> set[str]:
    """Return the names of the tables that a migration creates."""
    return {raw.stmt.relation.relname for raw in parse_sql(migration) if isinstance(raw.stmt, ast.CreateStmt)}


def _statement_of_schema_faults(node: Any) -> Iterator[str]:
    match node:
        case ast.CreateStmt():
            table = node.relation.relname
            first = node.tableElts[0]
            collation = getattr(first, "collClause", None)
            kinds = {constraint.contype for constraint in getattr(first, "constraints", None) or ()}
            leads = (
                isinstance(first, ast.ColumnDef)
                and first.colname == "user_id"
                and first.typeName.names[-1].sval == "text"
            )
            if (
                not leads
                or not collation
                or collation.collname[-1].sval != "C"
                or ConstrType.CONSTR_NOTNULL not in kinds
            ):
                yield f'{table} does not begin with user_id text COLLATE "C" NOT NULL'
            for element in node.tableElts:
                yield from _element_faults(element, table)
        case ast.AlterTableStmt():
            adds_constraint = AlterTableType.AT_AddConstraint in {command.subtype for command in node.cmds}
            if adds_constraint and len(node.cmds) > 1:
                yield f"{node.relation.relname}: ADD CONSTRAINT does not stand alone"
            for command in node.cmds:
                if command.subtype in (AlterTableType.AT_AddColumn, AlterTableType.AT_AddConstraint):
                    yield from _element_faults(command.def_, node.relation.relname)
                elif command.subtype == AlterTableType.AT_AddIdentity:
                    yield f"{node.relation.relname}: a sequence"
                elif command.name == "user_id":
                    yield f"{node.relation.relname}: user_id is altered"
        case ast.IndexStmt(unique=True):
            if "user_id" not in [element.name for element in node.indexParams]:
                yield f"{node.relation.relname}: unique without user_id"
        case (
            ast.CreateTrigStmt()
            | ast.CreateSeqStmt()
            | ast.CreateFunctionStmt()
            | ast.RuleStmt()
            | ast.DoStmt()
            | ast.ViewStmt()
        ):
            yield f"{type(node).__name__}"


def _element_faults(element: Any, table: str) -> Iterator[str]:
    """Yield the faults of a column or constraint."""
    constraints = [element]
    if isinstance(element, ast.ColumnDef):
        if element.typeName.names[-1].sval in _SERIALS or "nextval" in functions(element):
            yield f"{table}: a sequence"
        constraints = element.constraints or ()
    for constraint in constraints:
        if constraint.contype == ConstrType.CONSTR_IDENTITY:
            yield f"{table}: a sequence"
        elif constraint.contype in (ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_UNIQUE):
            keys = [key.sval for key in constraint.keys or ()] or [getattr(element, "colname", None)]
            if "user_id" not in keys:
                yield f"{table}: unique without user_id"
        elif constraint.contype == ConstrType.CONSTR_EXCLUSION:
            yield f"{table}: an exclusion constraint"
        elif constraint.contype == ConstrType.CONSTR_FOREIGN:
            pairs = zip(constraint.fk_attrs or (), constraint.pk_attrs or (), strict=False)
            if ("user_id", "user_id") not in [(mine.sval, theirs.sval) for mine, theirs in pairs]:
                yield f"{table}: a foreign key without user_id"
