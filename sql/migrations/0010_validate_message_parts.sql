-- Reads each table once, without holding off who writes.

ALTER TABLE messages VALIDATE CONSTRAINT messages_status_check;
ALTER TABLE messages VALIDATE CONSTRAINT messages_parent_seq_check;
ALTER TABLE attachments VALIDATE CONSTRAINT attachments_content_type_check;
ALTER TABLE attachments VALIDATE CONSTRAINT attachments_file_name_check;
